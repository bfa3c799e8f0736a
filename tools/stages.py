"""Where a stage is: its names, its functions, the clients of its region; and which there are."""

from __future__ import annotations

import re
from argparse import ArgumentParser
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

REGION: Final = "eu-west-2"
INGEST: Final = "ingest"
RECONCILE: Final = "reconcile"

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


def stage_options() -> ArgumentParser:
    """Return the options that the commands for a stage have in common, for `parents`."""
    options = ArgumentParser(add_help=False)
    options.add_argument("--stage", default="prod", help="its name (prod)")
    options.add_argument("--region", default=REGION, help=f"of the stage ({REGION})")
    options.add_argument("--json", action="store_true", help="for machines")
    return options


def stack_name(stage: str) -> str:
    """Return the name of a stage's stack."""
    return f"totesys-ingestion-{stage}"


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a stage, as it is deployed.

    Attributes:
        name: its name in Lambda.
        arn: its ARN.
        stage: the stage's name.
        region: where it is.
        timeout_seconds: how long a call of it may take.
        variables: its environment.
        seen_at: when it was looked up, by the clock of AWS.
    """

    name: str
    arn: str
    stage: str
    region: str
    timeout_seconds: int
    variables: Mapping[str, str]
    seen_at: datetime


def function_name(stage: str, function: str = INGEST) -> str:
    """Return the name of a stage's function."""
    return f"{stack_name(stage)}-{function}"


def log_group(function_name: str) -> str:
    """Return where a function's log is."""
    return f"/aws/lambda/{function_name}"


def get_configuration(stage: str, aws: Aws, function: str = INGEST) -> dict[str, Any] | None:
    """Return the configuration of a stage's function, None if there is no such function.

    Raises:
        BotoCoreError, ClientError: it may not be read from here.
    """
    client, name = aws.client("lambda"), function_name(stage, function)
    try:
        found: dict[str, Any] = client.get_function_configuration(FunctionName=name)
    except client.exceptions.ResourceNotFoundException:
        return None
    return found


def find_function(stage: str, region: str, function: str = INGEST) -> Function:
    """Return a function of a stage.

    Raises:
        ConfigError: there is no such function, or it may not be read from here.
    """
    name, aws = function_name(stage, function), Aws(region)
    try:
        found = get_configuration(stage, aws, function)
    except (BotoCoreError, ClientError) as error:
        raise ConfigError(
            f"The settings of the function {name} can't be read: {error}. "
            "Are region and credentials those of the stage's account?"
        ) from error
    if found is None:
        raise ConfigError(
            f"There is no stage {stage!r} in {region}: no function {name}. "
            f"{_suggestion(aws, function)}"
        )
    return Function(
        name,
        found["FunctionArn"],
        stage,
        region,
        found["Timeout"],
        found["Environment"]["Variables"],
        parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"]),
    )


def deployed_stages(aws: Aws, function: str = INGEST) -> list[str]:
    """Return the names of the stages that are deployed in a region.

    Raises:
        BotoCoreError, ClientError: they can't be listed.
    """
    pages = aws.client("lambda").get_paginator("list_functions").paginate()
    names = [each["FunctionName"] for page in pages for each in page["Functions"]]
    pattern = re.compile(function_name("(.+)", function))
    return sorted(match[1] for match in map(pattern.fullmatch, names) if match)


def _suggestion(aws: Aws, function: str) -> str:
    try:
        stages = deployed_stages(aws, function)
    except (BotoCoreError, ClientError) as error:
        return f"Which there are can't be listed: {error}"
    if not stages:
        return (
            "No stage is deployed there: check the credentials, name another region "
            "(REGION=eu-west-1), or deploy one."
        )
    return f"Deployed there: {', '.join(stages)}. Try: STAGE={stages[0]}"
