"""Where a deployed stage is: what its functions are called, and which stages there are."""

from __future__ import annotations

import re
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

REGION: Final = "eu-west-2"
INGEST: Final = "ingest"
RECONCILE: Final = "reconcile"


@dataclass(frozen=True, slots=True)
class Function:
    """A function of a stage, as it is deployed.

    Attributes:
        name: its name in Lambda.
        region: where it is.
        timeout_seconds: how long a call of it may take.
        variables: its environment.
        seen_at: when it was looked up, by the clock of AWS.
    """

    name: str
    region: str
    timeout_seconds: int
    variables: Mapping[str, str]
    seen_at: datetime


def function_name(stage: str, function: str = INGEST) -> str:
    """Return the name of a stage's function."""
    return f"totesys-ingestion-{stage}-{function}"


def log_group(function_name: str) -> str:
    """Return where a function's log is."""
    return f"/aws/lambda/{function_name}"


def find_function(stage: str, region: str, function: str = INGEST) -> Function:
    """Return a function of a stage.

    Raises:
        ConfigError: there is no such function, or it may not be read from here.
    """
    name, client = function_name(stage, function), boto3.client("lambda", region_name=region)
    try:
        found = client.get_function_configuration(FunctionName=name)
    except client.exceptions.ResourceNotFoundException as error:
        raise ConfigError(
            f"There is no stage {stage!r} in {region}: no function {name}. "
            f"{_suggestion(client, function)}"
        ) from error
    except (BotoCoreError, ClientError) as error:
        raise ConfigError(
            f"The settings of the function {name} can't be read: {error}. "
            "Are region and credentials those of the stage's account?"
        ) from error
    return Function(
        name,
        region,
        found["Timeout"],
        found["Environment"]["Variables"],
        parsedate_to_datetime(found["ResponseMetadata"]["HTTPHeaders"]["date"]),
    )


def _suggestion(client: Any, function: str) -> str:
    try:
        pages = client.get_paginator("list_functions").paginate()
        names = [each["FunctionName"] for page in pages for each in page["Functions"]]
    except (BotoCoreError, ClientError) as error:
        return f"Which there are can't be listed: {error}"
    pattern = re.compile(function_name("(.+)", function))
    stages = sorted(match[1] for match in map(pattern.fullmatch, names) if match)
    if not stages:
        return (
            "No stage is deployed there: check the credentials, name another region "
            "(REGION=eu-west-1), or deploy one."
        )
    return f"Deployed there: {', '.join(stages)}. Try: STAGE={stages[0]}"
