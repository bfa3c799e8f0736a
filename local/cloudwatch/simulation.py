"""CloudWatch of a local stage in simulated time: executions are recorded, then played.

An execution is recorded once, with its real log lines, and can be played at many times. The
service's metrics come from these lines. AWS's own metrics, which the stand-in does not make, come
from what happened: calls of the function from Lambda's REPORT lines, executions from their status.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from local.aws.function_log import Metric, calls
from local.cloudwatch.alarms import MINUTE, Alarms
from local.cloudwatch.log_filters import matches
from local.cloudwatch.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from local.stage import LocalStage

# The longest that the state machine waits before it calls the function again.
PAUSE_SECONDS = 60
EXECUTION_SECONDS = 570
_ATTEMPTS = 3  # Lambda's, of an asynchronous call
_EXECUTIONS = {
    "FAILED": "ExecutionsFailed",
    "TIMED_OUT": "ExecutionsTimedOut",
    "ABORTED": "ExecutionsAborted",
    "SUCCEEDED": "ExecutionsSucceeded",
}
# As the names of their resources begin.
INGEST, RECONCILE = "Ingest", "Reconcile"
RUNS, LOADS = "Ingestion", "Load"
_DURATION = re.compile(r"\tDuration: ([\d.]+) ms")


@dataclass(frozen=True)
class Recording:
    """What an execution left behind.

    Attributes:
        calls: the log lines of each call of the function.
        status: how it ended.
        timeout: the function's, in seconds. Durations are scaled to the declared timeout.
        machine: of which state machine it was, RUNS or LOADS.
    """

    calls: Sequence[Sequence[str]]
    status: str = "SUCCEEDED"
    timeout: float = 240
    machine: str = RUNS


def record(stage: LocalStage, event: object = None) -> Recording:
    """Run the state machine to its end and return the recording."""
    seen = len(stage.log.lines())
    status = stage.run(event).status
    return recorded(stage, seen, status)


def record_load(stage: LocalStage, table: str, workers: int) -> Recording:
    """Load a table and return the recording."""
    seen = len(stage.log.lines())
    status = stage.load(table, workers).status
    return replace(recorded(stage, seen, status), machine=LOADS)


def recorded(stage: LocalStage, seen: int, status: str) -> Recording:
    """Return the recording of an execution whose log lines are those after the first `seen`."""
    configuration = stage.aws.client("lambda").get_function_configuration(
        FunctionName=stage.function_name
    )
    found = list(calls(stage.log.lines()[seen:]))
    return Recording(found, status, configuration["Timeout"])


@dataclass
class Simulation:
    """A stage's CloudWatch since its deployment.

    Attributes:
        resources: the resources of the compiled template, conditions decided.
        alarms: the stage's alarms.
        metrics: all values so far.
        lines: each log line so far: when it was written, its log group, and its text.
        second: the time.
    """

    resources: Mapping[str, Any]
    alarms: Alarms
    metrics: Metrics = field(default_factory=Metrics)
    lines: list[tuple[float, str, str]] = field(default_factory=list)
    second: float = 0

    def advance(self, seconds: float) -> None:
        """Let time pass; alarms are evaluated every minute."""
        end = self.second + seconds
        for minute in range(int(self.second // MINUTE) + 1, int(end // MINUTE) + 1):
            self.alarms.evaluate(self.metrics, minute * MINUTE)
        self.second = end

    def play(self, recording: Recording) -> None:
        """Let an execution begin now; its later values are added already, but are not seen yet."""
        at = self.second
        scale = self._timeout / recording.timeout
        for lines in recording.calls:
            at = self._play_call(INGEST, lines, at, scale) + PAUSE_SECONDS
        ended = self.second + EXECUTION_SECONDS if recording.status == "TIMED_OUT" else at
        of_machine = {"StateMachineArn": f"{recording.machine}StateMachine"}
        name = _EXECUTIONS[recording.status]
        self.metrics.add(ended, Metric("AWS/States", name, of_machine, 1))

    def play_night(self, calls: Sequence[Sequence[str]]) -> None:
        """Let the reconciliation be called now, and again if a call fails, as Lambda does."""
        at = self.second
        for lines in calls:
            at = self._play_call(RECONCILE, lines, at, 1) + PAUSE_SECONDS
        if len(calls) == _ATTEMPTS and "\tStatus: " in calls[-1][-1]:
            self._add_of_lambda(RECONCILE, "AsyncEventsDropped", at)

    @property
    def _timeout(self) -> float:
        return float(self.resources["IngestLambdaFunction"]["Properties"]["Timeout"])

    def _play_call(self, function: str, lines: Sequence[str], at: float, scale: float) -> float:
        """Take the metrics of a call that begins at a time; return when it ends."""
        report = lines[-1]
        milliseconds = float(_DURATION.findall(report)[0]) * scale
        end = at + milliseconds / 1000
        self._add_of_lambda(function, "Duration", at, milliseconds)
        self._add_of_lambda(function, "Errors", at, "\tStatus: " in report)
        for line in lines:
            for metric in self._counted(function, line):
                self.metrics.add(end, metric)
            self.lines.append((end, f"/aws/lambda/{function}LambdaFunction", line))
        return end

    def _add_of_lambda(self, function: str, name: str, at: float, value: float = 1) -> None:
        of_function = {"FunctionName": f"{function}LambdaFunction"}
        self.metrics.add(at, Metric("AWS/Lambda", name, of_function, value))

    def _counted(self, function: str, line: str) -> Iterator[Metric]:
        """Yield what the metric filters of a function's log make of a line."""
        for resource in self.resources.values():
            declared = resource["Properties"]
            if resource["Type"] != "AWS::Logs::MetricFilter":
                continue
            if declared["LogGroupName"] != {"Ref": f"{function}LogGroup"}:
                continue
            if matches(declared["FilterPattern"], line):
                for made in declared["MetricTransformations"]:
                    value = float(made["MetricValue"])
                    yield Metric(made["MetricNamespace"], made["MetricName"], {}, value)
