"""The deployed dashboard: its widgets, and which metrics they show."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from local.cloudwatch.metrics import Metrics

_SEARCH = re.compile(
    r"SEARCH\('\{(?P<schema>[\w/,]+)\} MetricName=\"(?P<name>\w+)\""
    r"(?P<terms>(?: \w+=\"\w+\")*)', '(?P<stat>\w+)', (?P<period>\d+)\)"
)
# What a dashboard's text refers to: a resource's name stands for what CloudFormation puts there.
_REFERENCE = re.compile(r"\$\{(?:AWS::)?(\w+)\}")


@dataclass(frozen=True)
class Shown:
    """A metric that a widget shows, in the form it has in CloudFormation."""

    label: str
    metric: Mapping[str, Any]


def widgets(resources: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the widgets of the stack's dashboard."""
    text = resources["Dashboard"]["Properties"]["DashboardBody"]["Fn::Sub"]
    body = json.loads(_REFERENCE.sub(r"\1", text))
    found: list[dict[str, Any]] = body["widgets"]
    return found


def shown(widget: Mapping[str, Any], metrics: Metrics) -> Iterator[Shown]:
    """Yield the metrics that a widget shows; a search finds those that have values.

    Raises:
        ValueError: it uses a search that is not simulated.
    """
    for line in widget["properties"]["metrics"]:
        if isinstance(line[0], dict):
            yield from _found(line[0]["expression"], metrics)
        else:
            namespace, name, *pairs = line
            dimensions = dict(zip(pairs[::2], pairs[1::2], strict=True))
            yield Shown(name, _metric(namespace, name, dimensions))


def _found(expression: str, metrics: Metrics) -> Iterator[Shown]:
    match = _SEARCH.fullmatch(expression)
    if not match:
        raise ValueError(f"{expression!r} uses a search that is not simulated")
    namespace, *names = match["schema"].split(",")
    wanted = dict(re.findall(r"(\w+)=\"(\w+)\"", match["terms"]))
    for found_namespace, name, pairs in sorted(metrics.names()):
        dimensions = dict(pairs)
        if (found_namespace, name, {*dimensions}) == (
            namespace,
            match["name"],
            {*names},
        ) and wanted.items() <= dimensions.items():
            label = " ".join(v for k, v in pairs if k not in {*wanted, "service"})
            yield Shown(label, _metric(namespace, name, dimensions))


def _metric(namespace: str, name: str, dimensions: Mapping[str, str]) -> dict[str, Any]:
    pairs = [{"Name": key, "Value": value} for key, value in dimensions.items()]
    return {"Namespace": namespace, "MetricName": name, "Dimensions": pairs}
