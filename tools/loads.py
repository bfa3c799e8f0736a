"""Loads of a deployed stage, as Step Functions tells of them: which are under way, and how far."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from shared.bucket import keys
from shared.errors import PipelineError
from tools.stages import REGION, Aws

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from datetime import datetime

    from tools.stages import Function

RUNNING: Final = "RUNNING"
PLANNING, LANDING, FINISHING, ENDED = "planning", "landing", "finishing", "ended"
# An execution's name may have 80 characters.
_TABLE_LENGTH, _CALLER_LENGTH = 38, 20


class StatesError(PipelineError):
    """Step Functions refused or can't be reached; the message says what to do."""


@dataclass(frozen=True, slots=True)
class LoadStatus:
    """How far a load is.

    Attributes:
        table: what it loads.
        execution: the ARN of its execution.
        started_at: when it began, UTC.
        phase: PLANNING, LANDING, FINISHING, or ENDED.
        batches: how many it has to land; None while they are being planned.
        done: how many of them its workers are done with. A worker takes several of a load of more
            than 1,000, and they count when the last of them has landed.
    """

    table: str
    execution: str
    started_at: str
    phase: str
    batches: int | None = None
    done: int = 0

    @property
    def name(self) -> str:
        """The name of the execution."""
        return self.execution.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class Ended:
    """How an execution ended: its status and, by that, what it returned or why it failed."""

    status: str
    seconds: float
    output: Any = None
    error: str = ""
    cause: str = ""


class Load:
    """An execution of a stage's state machine of loads."""

    def __init__(self, client: Any, execution: str) -> None:
        """Prepare; nothing is asked before `look`.

        Args:
            client: boto3's of Step Functions.
            execution: the ARN.
        """
        self.execution = execution
        self._client = client
        self._map_run: str | None = None
        self._batches = self._items = 0

    @property
    def batches(self) -> int:
        """How many batches it had to land when it was planned; 0 as long as that is not known."""
        return self._batches

    def look(self) -> tuple[LoadStatus, Ended | None]:
        """Return how far the load is, and how it ended if it has.

        It takes two requests; the first time that workers are landing, some more.

        Raises:
            BotoCoreError, ClientError: Step Functions refuses, or can't be reached.
        """
        found = self._client.describe_execution(executionArn=self.execution)
        ended = _ended(found) if found["status"] != RUNNING else None
        began = found["startDate"].astimezone(UTC).isoformat(timespec="seconds")
        run = self._describe_map_run()
        phase, done = PLANNING, 0
        if run:
            phase = LANDING if run["status"] == RUNNING else FINISHING
            done = self._done(run["itemCounts"]["succeeded"])
        status = LoadStatus(
            table_of(found) or "?",
            self.execution,
            began,
            ENDED if ended else phase,
            self._batches if run else None,
            done,
        )
        return status, ended

    def _describe_map_run(self) -> Mapping[str, Any] | None:
        if self._map_run is None:
            runs = self._client.list_map_runs(executionArn=self.execution)["mapRuns"]
            if not runs:
                return None
            self._map_run = runs[0]["mapRunArn"]
            self._read_plan()
        found: Mapping[str, Any] = self._client.describe_map_run(mapRunArn=self._map_run)
        return found

    def _read_plan(self) -> None:
        """Find what was planned in the history: the counts of a map run lack what waits."""
        pages = self._client.get_paginator("get_execution_history").paginate(
            executionArn=self.execution
        )
        for page in pages:
            for event in page["events"]:
                if event["type"] == "MapStateEntered":
                    plan = json.loads(event["stateEnteredEventDetails"]["input"])
                    self._batches, self._items = plan["batches"], len(plan["items"])
                    return

    def _done(self, items: int) -> int:
        """Return how many batches so many items have: all have as many, but for the last one."""
        if items >= self._items:
            return self._batches
        return min(self._batches, items * -(-self._batches // self._items))


def start(function: Function, table: str, workers: int | None) -> Load:
    """Start a load of a table; the execution's name says of which table, by whom, and when.

    Raises:
        StatesError: Step Functions refuses, or can't be reached.
    """
    aws = Aws(function.region)
    asked = {"table": table} | ({"workers": workers} if workers else {})
    try:
        caller = re.split("[:/]", aws.client("sts").get_caller_identity()["Arn"])[-1]
        client = aws.client("stepfunctions")
        started = client.start_execution(
            stateMachineArn=machine_arn(function),
            name=execution_name(table, caller, keys.timestamp_now()),
            input=json.dumps(asked),
        )
    except (BotoCoreError, ClientError) as error:
        raise StatesError(
            f"The load of {table!r} was not started: {error}. Does the stage have the state "
            f"machine {machine_arn(function)}, and may you states:StartExecution?"
        ) from error
    return Load(client, started["executionArn"])


def loads_under_way(function: Function) -> Iterator[Load]:
    """Yield the loads of a stage that are under way.

    Raises:
        BotoCoreError, ClientError: they can't be listed.
    """
    client = Aws(function.region).client("stepfunctions")
    found = client.list_executions(stateMachineArn=machine_arn(function), statusFilter=RUNNING)
    for each in found["executions"]:
        yield Load(client, each["executionArn"])


def find_load(function: Function, table: str) -> Load | None:
    """Return the load of a table that is under way; None if there is none.

    Raises:
        StatesError: Step Functions refuses, or can't be reached.
    """
    try:
        found = (each for each in loads_under_way(function) if each.look()[0].table == table)
        return next(found, None)
    except (BotoCoreError, ClientError) as error:
        raise StatesError(
            f"The loads that are under way can't be listed: {error}. Does the stage have the state "
            f"machine {machine_arn(function)}, and may you states:ListExecutions and "
            "states:DescribeExecution? Nothing was started."
        ) from error


def load_command(table: str, stage: str, region: str) -> str:
    """Return the command that loads a table, or follows the load that is under way.

    >>> load_command("payment", "prod", "eu-west-2")
    'make load TABLE=payment STAGE=prod'
    """
    where = f"STAGE={stage}" + (f" REGION={region}" if region != REGION else "")
    return f"make load TABLE={table} {where}"


def machine_arn(function: Function) -> str:
    """Return the ARN of the state machine of loads, from that of the stage's function.

    It is of the same account and region, which nobody has to be asked for then.
    """
    _, partition, _, region, account, *_ = function.arn.split(":")
    return f"arn:{partition}:states:{region}:{account}:stateMachine:{function.stage}-load"


def execution_name(table: str, caller: str, timestamp: str) -> str:
    """Return a name that Step Functions takes.

    >>> execution_name("payment", "ana@example.com", "2026-11-27T14-03-12")
    'payment-ana-example-com-2026-11-27T14-03-12'
    """
    plain = re.sub(r"[^A-Za-z0-9_-]+", "-", caller)[:_CALLER_LENGTH]
    return f"{table[:_TABLE_LENGTH]}-{plain}-{timestamp}"


def table_of(found: Mapping[str, Any]) -> str | None:
    """Return the table of an execution; None if its input, which anybody can write, has none."""
    asked = json.loads(found["input"])
    table = asked.get("table") if isinstance(asked, dict) else None
    return table if isinstance(table, str) else None


def _ended(found: Mapping[str, Any]) -> Ended:
    began: datetime = found["startDate"]
    seconds = (found["stopDate"] - began).total_seconds()
    output = json.loads(found["output"]) if "output" in found else None
    return Ended(found["status"], seconds, output, found.get("error", ""), found.get("cause", ""))
