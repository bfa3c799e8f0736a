"""Where a stage is: its names, its function, the clients of its region; and which there are."""

from __future__ import annotations

import re
from typing import Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import ConfigError

REGION: Final = "eu-west-2"

# Somebody waits for the answer.
_SOON = Config(
    connect_timeout=5, read_timeout=20, retries={"mode": "standard", "total_max_attempts": 3}
)


class Aws:
    """AWS in one region.

    Attributes:
        region: its name.
    """

    def __init__(self, region: str) -> None:
        """Prepare; credentials are looked for when the first client is made."""
        self.region = region
        self._session: Any = None
        self._clients: dict[str, Any] = {}

    def client(self, service: str) -> Any:
        """Return the client of a service; it gives up soon.

        Raises:
            BotoCoreError: the profile does not exist.
        """
        if service not in self._clients:
            self._session = self._session or boto3.Session(region_name=self.region)
            self._clients[service] = self._session.client(service, config=_SOON)
        return self._clients[service]


def stack_name(stage: str) -> str:
    """Return the name of a stage's stack."""
    return f"totesys-ingestion-{stage}"


def function_name(stage: str) -> str:
    """Return the name of a stage's function."""
    return f"{stack_name(stage)}-ingest"


def find_function(stage: str, aws: Aws) -> dict[str, Any] | None:
    """Return the configuration of a stage's function, None if there is no such function.

    Raises:
        BotoCoreError, ClientError: it may not be read from here.
    """
    client = aws.client("lambda")
    try:
        found: dict[str, Any] = client.get_function_configuration(FunctionName=function_name(stage))
    except client.exceptions.ResourceNotFoundException:
        return None
    return found


def function_variables(stage: str, region: str) -> dict[str, str]:
    """Return the environment variables of a stage's function.

    Raises:
        ConfigError: there is no such function, or it may not be read from here.
    """
    name, aws = function_name(stage), Aws(region)
    try:
        found = find_function(stage, aws)
    except (BotoCoreError, ClientError) as error:
        raise ConfigError(
            f"The settings of the function {name} can't be read: {error}. "
            "Are region and credentials those of the stage's account?"
        ) from error
    if found is None:
        raise ConfigError(
            f"There is no stage {stage!r} in {region}: no function {name}. {_suggestion(aws)}"
        )
    variables: dict[str, str] = found["Environment"]["Variables"]
    return variables


def deployed_stages(aws: Aws) -> list[str]:
    """Return the names of the stages that are deployed in a region.

    Raises:
        BotoCoreError, ClientError: they can't be listed.
    """
    pages = aws.client("lambda").get_paginator("list_functions").paginate()
    names = [each["FunctionName"] for page in pages for each in page["Functions"]]
    pattern = re.compile(function_name("(.+)"))
    return sorted(match[1] for match in map(pattern.fullmatch, names) if match)


def _suggestion(aws: Aws) -> str:
    try:
        stages = deployed_stages(aws)
    except (BotoCoreError, ClientError) as error:
        return f"Which there are can't be listed: {error}"
    if not stages:
        return "No stage is deployed there: check region and credentials, or deploy one."
    return f"Deployed there: {', '.join(stages)}. Try: make status STAGE={stages[0]}"
