"""CloudWatch's metrics, as far as alarms and dashboards read them: values by simulated time."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from local.aws.function_log import Metric

    type Key = tuple[str, str, tuple[tuple[str, str], ...]]

_STATISTICS: Mapping[str, Callable[[list[float]], float]] = {
    "Sum": sum,
    "Maximum": max,
    "Minimum": min,
    "SampleCount": len,
    "Average": lambda values: sum(values) / len(values),
}


class Metrics:
    """Every value of every metric."""

    def __init__(self) -> None:
        self._values: dict[Key, list[tuple[float, float]]] = defaultdict(list)

    def add(self, second: float, metric: Metric) -> None:
        """Add a value at a time, in seconds."""
        key = _key(metric.namespace, metric.name, metric.dimensions)
        insort(self._values[key], (second, metric.value))

    def names(self) -> set[Key]:
        """Return namespace, name and dimensions of every metric that has a value."""
        return set(self._values)

    def statistic(self, metric: Mapping[str, Any], name: str, start: float, end: float) -> Any:
        """Return a metric's statistic from `start` to just before `end`; None without values.

        Args:
            metric: Namespace, MetricName and Dimensions, as in CloudFormation.
            name: Sum, Maximum, Minimum, SampleCount or Average.
            start: a time, in seconds.
            end: a time, in seconds.
        """
        values = self._values.get(metric_key(metric), [])
        first, behind = bisect_left(values, (start,)), bisect_left(values, (end,))
        found = [value for _, value in values[first:behind]]
        return _STATISTICS[name](found) if found else None


def metric_key(metric: Mapping[str, Any]) -> Key:
    """Return the key that identifies a metric.

    Args:
        metric: as in CloudFormation; a `Ref` in a dimension stands for the resource's logical name.
    """
    pairs: Sequence[Mapping[str, Any]] = metric.get("Dimensions", [])
    dimensions = {pair["Name"]: _resolved(pair["Value"]) for pair in pairs}
    return _key(metric["Namespace"], metric["MetricName"], dimensions)


def _resolved(value: Any) -> str:
    return str(value["Ref"] if isinstance(value, dict) else value)


def _key(namespace: str, name: str, dimensions: Mapping[str, str]) -> Key:
    return namespace, name, tuple(sorted(dimensions.items()))
