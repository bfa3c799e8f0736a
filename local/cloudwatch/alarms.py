"""CloudWatch's alarms, evaluated in simulated time as AWS's documentation describes.

Once a minute an alarm evaluates the last periods that end then, the newest first. Where values are
missing it looks further back than its evaluation periods. AWS does not say how far: `looks_back`.
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-evaluation.html
https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarms-and-missing-data.html
"""

from __future__ import annotations

import operator
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from local.cloudwatch.metrics import Metrics

type State = Literal["OK", "ALARM", "INSUFFICIENT_DATA"]

MINUTE = 60
_COMPARISONS = {
    "GreaterThanOrEqualToThreshold": operator.ge,
    "GreaterThanThreshold": operator.gt,
    "LessThanThreshold": operator.lt,
    "LessThanOrEqualToThreshold": operator.le,
}
_FILLED = re.compile(r"FILL\((\w+), 0\)")
_ARITHMETIC = re.compile(r"[\w\s.()*/+-]+")


@dataclass(frozen=True)
class Change:
    """An alarm that changed its state."""

    second: int
    alarm: str
    state: State


@dataclass
class Alarms:
    """The alarms of a stack that was just deployed.

    Attributes:
        resources: the resources of the compiled template, conditions decided.
        looks_back: how many periods before its own an alarm looks at where values are missing.
        states: the state of each alarm, by logical name.
        changes: every change of a state so far, in order.
    """

    resources: Mapping[str, Any]
    looks_back: int = 2
    states: dict[str, State] = field(default_factory=dict)
    changes: list[Change] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Begin without data, like every new alarm."""
        self._alarms = {
            name: resource["Properties"]
            for name, resource in self.resources.items()
            if resource["Type"] == "AWS::CloudWatch::Alarm"
        }
        self._warming_up = set(self._alarms)
        for name in self._alarms:
            self.states[name] = "INSUFFICIENT_DATA"

    def evaluate(self, metrics: Metrics, second: int) -> None:
        """Evaluate every alarm at a time, in seconds; to be called once a minute."""
        for name, alarm in self._alarms.items():
            points = breaches(alarm, metrics, second, self.looks_back)
            if not self._is_warming_up(name, points, second):
                self._set(second, name, judge(alarm, points, self.states[name]))

    def fired(self) -> set[str]:
        """Return which alarms have been in ALARM."""
        return {each.alarm for each in self.changes if each.state == "ALARM"}

    def messages(self, state: State) -> list[Change]:
        """Return the changes to a state of which the topic got a message."""
        actions = {"ALARM": "AlarmActions", "OK": "OKActions"}[state]
        return [
            change
            for change in self.changes
            for _ in self._alarms[change.alarm].get(actions, [])
            if change.state == state
        ]

    def _is_warming_up(self, name: str, points: Sequence[bool | None], second: int) -> bool:
        """Tell whether a new alarm is not evaluated yet; enough values end that early.

        https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/alarm-warm-up.html
        """
        alarm = self._alarms[name]
        minutes = alarm.get("WarmUpConfiguration", {}).get("WarmUpPeriodDurationInMinutes", 0)
        is_filled = None not in points[: alarm["EvaluationPeriods"]]
        if is_filled or second > minutes * MINUTE:
            self._warming_up.discard(name)
        return name in self._warming_up

    def _set(self, second: int, name: str, state: State) -> None:
        if state != self.states[name]:
            self.states[name] = state
            self.changes.append(Change(second, name, state))


def breaches(
    alarm: Mapping[str, Any], metrics: Metrics, second: int, looks_back: int
) -> list[bool | None]:
    """Return whether each period breaches the threshold, None where values are missing.

    The newest is first; the last `looks_back` ones are older than the alarm's evaluation periods.
    """
    compare = _COMPARISONS[alarm["ComparisonOperator"]]
    found = []
    for number in range(alarm["EvaluationPeriods"] + looks_back):
        value = _value(alarm, metrics, second, number)
        found.append(None if value is None else bool(compare(value, alarm["Threshold"])))
    return found


def judge(alarm: Mapping[str, Any], points: Sequence[bool | None], state: State) -> State:
    """Return the state an alarm goes into.

    Args:
        alarm: its properties.
        points: see `breaches`.
        state: its present state.
    """
    periods = alarm["EvaluationPeriods"]
    needed = alarm.get("DatapointsToAlarm", periods)
    missing = alarm.get("TreatMissingData", "missing")
    # Existing values count first, including older ones; what is still missing then counts as the
    # alarm declares.
    present = [point for point in points if point is not None][:periods]
    if len(present) < periods and missing in {"breaching", "notBreaching"}:
        present += [missing == "breaching"] * (periods - len(present))
    if sum(present) >= needed:
        return "ALARM"
    if len(present) == periods or False in present:
        return "OK"
    if missing == "ignore":
        return state
    if not present:
        return "INSUFFICIENT_DATA"
    oldest = max((age for age, point in enumerate(points[:periods], 1) if point), default=0)
    return "ALARM" if oldest >= needed else state


def _value(alarm: Mapping[str, Any], metrics: Metrics, second: int, number: int) -> Any:
    """Return the value of a period, counted back from the present."""
    if "MetricName" in alarm:
        return _statistic(metrics, alarm, alarm["Statistic"], alarm["Period"], second, number)
    values = {}
    for each in alarm["Metrics"]:
        if stat := each.get("MetricStat"):
            values[each["Id"]] = _statistic(
                metrics, stat["Metric"], stat["Stat"], stat["Period"], second, number
            )
    return _calculated(alarm["Metrics"], values)


def _statistic(
    metrics: Metrics, metric: Mapping[str, Any], name: str, period: int, second: int, number: int
) -> Any:
    end = second - number * period
    return metrics.statistic(metric, name, end - period, end)


def _calculated(queries: Sequence[Mapping[str, Any]], values: Mapping[str, Any]) -> Any:
    (expression,) = [each["Expression"] for each in queries if "Expression" in each]
    for name in _FILLED.findall(expression):
        values = {**values, name: values[name] or 0}
    expression = _FILLED.sub(r"\1", expression)
    if not _ARITHMETIC.fullmatch(expression):
        raise ValueError(f"{expression!r} uses something that is not simulated")
    if None in values.values():
        return None
    return eval(expression, {"__builtins__": {}}, dict(values))
