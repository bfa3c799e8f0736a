"""The alarms of a local stage while it is up: the simulator, with time passing as it does."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from local.aws.function_log import calls
from local.cloudwatch.alarms import Alarms
from local.cloudwatch.simulation import Recording, Simulation

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from local.aws.execution import Execution
    from local.stage import LocalStage

_WORDS = {"ALARM": "fires", "OK": "clears"}


class LiveAlarms:
    """The alarms that were deployed, from now on."""

    def __init__(self, stage: LocalStage, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the alarms of the stage as new ones; `clock` says the seconds."""
        resources = stage.resources()
        self._simulation = Simulation(resources, Alarms(resources))
        self._prefix = stage.stack
        self._clock, self._began = clock, clock()

    def take(self, lines: Sequence[str], execution: Execution) -> list[str]:
        """Take what an execution left behind that has just ended; return as `until_now`."""
        changed = self.until_now()
        self._simulation.play(Recording(list(calls(lines)), execution.status, self._timeout))
        return changed

    def take_night(self, lines: Sequence[str]) -> list[str]:
        """Take what a call of the reconciliation logged that has just ended, as `take` does."""
        changed = self.until_now()
        self._simulation.play_night(list(calls(lines)))
        return changed

    def until_now(self) -> list[str]:
        """Let the time pass that has passed; return which alarms fired and which cleared."""
        alarms = self._simulation.alarms
        seen = len(alarms.changes)
        before = dict(alarms.states)
        self._simulation.advance(self._clock() - self._began - self._simulation.second)
        said = []
        for change in alarms.changes[seen:]:
            if "ALARM" in (change.state, before[change.alarm]):
                said.append(
                    f"alarm {self._name(change.alarm)} {_WORDS.get(change.state, 'has no data')}"
                )
            before[change.alarm] = change.state
        return said

    @property
    def _timeout(self) -> float:
        function = self._simulation.resources["IngestLambdaFunction"]["Properties"]
        return float(function["Timeout"])

    def _name(self, logical: str) -> str:
        name: str = self._simulation.resources[logical]["Properties"]["AlarmName"]
        return name.removeprefix(f"{self._prefix}-")
