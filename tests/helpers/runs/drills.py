"""Faults on the local stage, and what its alarms make of them in simulated time."""

from __future__ import annotations

import json
from contextlib import contextmanager
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from local.cloudwatch.alarms import MINUTE, Alarms
from local.cloudwatch.simulation import Simulation

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.cloudwatch.simulation import Recording
    from local.stage import LocalStage

TICK = 600
TICKS_A_DAY = 144
_NAME = "totesys-ingestion-local-"


class Email(NamedTuple):
    """An email: which alarm sent it, and when, in minutes from the fault's begin."""

    alarm: str
    minutes: float


@dataclass(frozen=True)
class Outcome:
    """What the alarms did, as docs/operating.md names them.

    Attributes:
        emails: those that say that an alarm fires.
        all_clears: the alarms of those that say that it is over.
        still_on: what is in ALARM at the end.
    """

    emails: list[Email]
    all_clears: list[str]
    still_on: set[str]

    @property
    def alarms(self) -> set[str]:
        """The alarms that fired."""
        return {email.alarm for email in self.emails}


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

    def play(self, recording: Recording) -> None:
        """Let an execution begin that somebody starts, and count from its begin."""
        self._begin = self.simulation.second
        self.simulation.play(recording)

    def outcome(self) -> Outcome:
        """Return what the alarms did since `begin`."""
        alarms, seen = self.simulation.alarms, self._begin
        return Outcome(
            emails=[
                Email(self._names[change.alarm], (change.second - seen) / MINUTE)
                for change in alarms.messages("ALARM")
                if change.second > seen
            ],
            all_clears=[
                self._names[change.alarm]
                for change in alarms.messages("OK")
                if change.second > seen
            ],
            still_on={
                self._names[name] for name, state in alarms.states.items() if state == "ALARM"
            },
        )

    @property
    def _names(self) -> dict[str, str]:
        return {
            name: resource["Properties"]["AlarmName"].removeprefix(_NAME)
            for name, resource in self.simulation.resources.items()
            if resource["Type"] == "AWS::CloudWatch::Alarm"
        }


type Night = Sequence[Sequence[str]]


def nights(
    resources: dict[str, Any], looks_back: int, healthy: Recording, good: Night, bad: Night
) -> Outcome:
    """Return what the alarms do when the reconciliation is fine but in the third night of five.

    Args:
        resources: those of the compiled template.
        looks_back: see `Alarms`.
        healthy: a good run of the ingestion, which goes on all the time.
        good: the log lines of each call of the reconciliation if all is well.
        bad: those if not; none if it does not run.
    """
    days = Days(resources, looks_back)
    for night in (good, good, bad, good, good):
        if night is bad:
            days.begin()
        days.simulation.play_night(night)
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
