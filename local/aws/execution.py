"""Runs a state machine to its end."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import dataclass
from typing import Any

POLL_SECONDS = 0.05
# The state machine's own limit is 570 seconds.
RUN_SECONDS = 600


@dataclass(frozen=True)
class Execution:
    """How an execution ended; `output` is None unless its status is SUCCEEDED."""

    status: str
    output: Any
    error: str | None
    cause: str | None
    seconds: float


def execute(client: Any, state_machine_arn: str, text: str = "{}") -> Execution:
    """Start an execution and wait for its end.

    Args:
        client: boto3's for Step Functions.
        state_machine_arn: the state machine's.
        text: its input, JSON.

    Raises:
        TimeoutError: it takes longer than any execution may.
    """
    started = time.monotonic()
    # moto takes a second execution without a name for the first one.
    execution_arn = client.start_execution(
        stateMachineArn=state_machine_arn, name=str(uuid.uuid4()), input=text
    )["executionArn"]
    while True:
        found = client.describe_execution(executionArn=execution_arn)
        seconds = time.monotonic() - started
        if found["status"] != "RUNNING":
            return _ended(found, seconds)
        if seconds > RUN_SECONDS:
            raise TimeoutError(f"{execution_arn} still runs after {RUN_SECONDS} seconds.")
        time.sleep(POLL_SECONDS)


def _ended(found: dict[str, Any], seconds: float) -> Execution:
    output = json.loads(found["output"]) if found["status"] == "SUCCEEDED" else None
    return Execution(found["status"], output, found.get("error"), found.get("cause"), seconds)
