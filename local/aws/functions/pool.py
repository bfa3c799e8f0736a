"""The execution environments of all functions.

A call takes an idle environment of the function (warm) or starts a new one (cold). After a change
of the code or the configuration the old environments get no more calls, as on AWS.
"""

from __future__ import annotations

import json
from collections import defaultdict
from threading import Lock
from typing import TYPE_CHECKING

from moto.awslambda.utils import get_backend

from local.aws.functions.environment import Environment
from local.aws.functions.files import FunctionFiles

if TYPE_CHECKING:
    from pathlib import Path

    from moto.awslambda.models import LambdaFunction

    from local.aws.functions.runtime_api import Answer


class Functions:
    """The execution environments of all functions; safe to use from several threads."""

    def __init__(self, folder: Path, endpoint: str) -> None:
        """Make `folder` and keep unpacked code in it; functions find AWS at `endpoint`."""
        self._folder = folder
        self._endpoint = endpoint
        self._files = FunctionFiles(folder)
        self._idle: dict[str, list[Environment]] = defaultdict(list)
        self._started: list[Environment] = []
        self._lock = Lock()

    def invoke(self, function: LambdaFunction, event: bytes) -> Answer:
        """Call the function with an event, a JSON text."""
        configuration = json.dumps(function.get_configuration(), sort_keys=True)
        environment = self._acquire(function, configuration)
        answer = environment.invoke(event)
        if environment.alive:
            self._idle[configuration].append(environment)
        return answer

    def stop(self) -> None:
        """Kill all environments, also in the middle of a call."""
        for environment in self._started:
            environment.stop()

    def _acquire(self, function: LambdaFunction, configuration: str) -> Environment:
        with self._lock:
            idle = self._idle[configuration]
            while idle:
                if (environment := idle.pop()).alive:
                    return environment
            return self._start(function)

    def _start(self, function: LambdaFunction) -> Environment:
        folders = self._files.import_path(function, _layers(function))
        environment = Environment(function, folders, self._folder, self._endpoint)
        self._started.append(environment)
        return environment


def _layers(function: LambdaFunction) -> list[tuple[str, bytes]]:
    """Return digest and zip of each of the function's layers."""
    backend = get_backend(function.account_id, function.region)
    versions = [backend.layers_versions_by_arn(layer["Arn"]) for layer in function.layers]
    return [(version.code_digest, version.code_bytes) for version in versions if version]
