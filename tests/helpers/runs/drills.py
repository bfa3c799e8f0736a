"""Faults on the local stage, and what its alarms make of them in simulated time."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from local.cloudwatch.alarms import MINUTE, Alarms
from local.cloudwatch.simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.aws.function_log import Metric
    from local.cloudwatch.simulation import Recording
    from local.stage import LocalStage

TICK = 600
TICKS_A_DAY = 144
_NAME = "totesys-ingestion-local-"


@dataclass(frozen=True)
class Outcome:
    """What the alarms did.

    Attributes:
        alarms: the single ones that fired, as docs/operating.md names them, and when each first
            did, in minutes from the fault's begin.
        emails: when the email was sent, in minutes from the fault's begin.
        all_clears: how many emails said that it is over.
        still_on: what is in ALARM at the end.
    """

    alarms: dict[str, float]
    emails: list[float]
    all_clears: int
    still_on: set[str]


class Days:
    """A simulated stage with a tick every ten minutes, some of them late."""

    def __init__(self, resources: dict[str, Any], looks_back: int) -> None:
        self.simulation = Simulation(resources, Alarms(resources, looks_back))
        self._late = Random(1)
        self._begin = 0.0

    def tick(self, recording: Recording | None, times: int = 1) -> None:
        """Let the schedule start runs like the one recorded; None if it starts none."""
        for _ in range(times):
            late = self._late.uniform(1, MINUTE - 1)
            self.simulation.advance(late)
            if recording:
                self.simulation.play(recording)
            self.simulation.advance(TICK - late)

    def begin(self) -> None:
        """Count from right after the run of the last tick: a fault can't begin sooner."""
        self._begin = self.simulation.second - TICK + 2 * MINUTE

    def outcome(self) -> Outcome:
        """Return what the alarms did since `begin`."""
        alarms = self.simulation.alarms
        first: dict[str, float] = {}
        for change in alarms.changes:
            if (
                change.state == "ALARM"
                and change.alarm in self._names
                and self._after(change.second)
            ):
                first.setdefault(self._names[change.alarm], self._after(change.second))
        return Outcome(
            alarms=first,
            emails=[self._after(at) for at in alarms.messages("ALARM") if self._after(at)],
            all_clears=sum(bool(self._after(at)) for at in alarms.messages("OK")),
            still_on={name for name, state in alarms.states.items() if state == "ALARM"},
        )

    def _after(self, second: float) -> float:
        return max(0.0, (second - self._begin) / MINUTE)

    @property
    def _names(self) -> dict[str, str]:
        return {
            name: resource["Properties"]["AlarmName"].removeprefix(_NAME)
            for name, resource in self.simulation.resources.items()
            if resource["Type"] == "AWS::CloudWatch::Alarm"
        }


def nights(
    resources: dict[str, Any],
    looks_back: int,
    healthy: Recording,
    good: Sequence[Metric],
    bad: Sequence[Metric],
) -> Outcome:
    """Return what the alarms do when the reconciliation is fine but in the second night of three.

    Args:
        resources: those of the compiled template.
        looks_back: see `Alarms`.
        healthy: a good run of the ingestion, which goes on all the time.
        good: what the reconciliation emits if all is well.
        bad: what it emits if not.
    """
    days = Days(resources, looks_back)
    for night in (good, bad, good):
        if night is bad:
            days.begin()
        for metric in night:
            days.simulation.metrics.add(days.simulation.second, metric)
        days.tick(healthy, TICKS_A_DAY)
    return days.outcome()


def drill(
    resources: dict[str, Any],
    looks_back: int,
    healthy: Recording,
    faulty: Sequence[Recording | None],
    ticks: int,
) -> Outcome:
    """Return what a fault does that begins right after a good tick and lasts some ticks.

    Args:
        resources: those of the compiled template.
        looks_back: see `Alarms`.
        healthy: a good run, before the fault and after it.
        faulty: the runs of the fault; the last one is repeated.
        ticks: how many ticks the fault lasts.
    """
    days = Days(resources, looks_back)
    days.tick(healthy, 12)
    days.begin()
    for number in range(ticks):
        days.tick(faulty[min(number, len(faulty) - 1)])
    days.tick(healthy, 18)
    return days.outcome()


@contextmanager
def configured(stage: LocalStage, variables: dict[str, str], **more: Any) -> Iterator[None]:
    """Give the function other environment variables, or another configuration; a cold start."""
    client = stage.aws.client("lambda")
    found = client.get_function_configuration(FunctionName=stage.function_name)
    before = {name: found[name] for name in ("Environment", "Timeout", "MemorySize")}
    environment = {"Variables": before["Environment"]["Variables"] | variables}
    changed = {"FunctionName": stage.function_name, "Environment": environment} | more
    client.update_function_configuration(**changed)
    try:
        yield
    finally:
        client.update_function_configuration(FunctionName=stage.function_name, **before)
        stage.next_call_is_cold()


@contextmanager
def state_machine(stage: LocalStage, **more: Any) -> Iterator[None]:
    """Let the state machine retry as often as it does, and without its long waits."""
    client = stage.aws.client("stepfunctions")
    arn = stage.state_machine_arn
    before = client.describe_state_machine(stateMachineArn=arn)["definition"]
    definition = json.loads(before) | more
    for retry in definition["States"]["Ingest"]["Retry"]:
        retry |= {"IntervalSeconds": 1, "BackoffRate": 1.0, "JitterStrategy": "FULL"}
        retry.pop("MaxDelaySeconds", None)
    client.update_state_machine(stateMachineArn=arn, definition=json.dumps(definition))
    try:
        yield
    finally:
        client.update_state_machine(stateMachineArn=arn, definition=before)
