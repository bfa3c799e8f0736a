"""Where a deployed stage is: its function's name, and which stages there are."""

from __future__ import annotations

import re
from typing import Any, Final

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import ConfigError

REGION: Final = "eu-west-2"


def function_name(stage: str) -> str:
    """Return the name of a stage's function."""
    return f"totesys-ingestion-{stage}-ingest"


def function_variables(stage: str, region: str) -> dict[str, str]:
    """Return the environment variables of a stage's function.

    Raises:
        ConfigError: there is no such function, or it may not be read from here.
    """
    name, client = function_name(stage), _client(region)
    try:
        found = client.get_function_configuration(FunctionName=name)
    except client.exceptions.ResourceNotFoundException as error:
        raise ConfigError(
            f"There is no stage {stage!r} in {region}: no function {name}. {_suggestion(client)}"
        ) from error
    except (BotoCoreError, ClientError) as error:
        raise ConfigError(
            f"The settings of the function {name} can't be read: {error}. "
            "Are region and credentials those of the stage's account?"
        ) from error
    variables: dict[str, str] = found["Environment"]["Variables"]
    return variables


def _suggestion(client: Any) -> str:
    try:
        pages = client.get_paginator("list_functions").paginate()
        names = [each["FunctionName"] for page in pages for each in page["Functions"]]
    except (BotoCoreError, ClientError) as error:
        return f"Which there are can't be listed: {error}"
    pattern = re.compile(function_name("(.+)"))
    stages = sorted(match[1] for match in map(pattern.fullmatch, names) if match)
    if not stages:
        return "No stage is deployed there: check region and credentials, or deploy one."
    return f"Deployed there: {', '.join(stages)}. Try: make status STAGE={stages[0]}"


def _client(region: str) -> Any:
    return boto3.client("lambda", region_name=region)
