"""The deployed dashboard: its widgets, and which metrics they show."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

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


def shown(widget: Mapping[str, Any]) -> Iterator[Shown]:
    """Yield the metrics that a widget shows.

    Raises:
        ValueError: it shows something that is not simulated.
    """
    for line in widget["properties"]["metrics"]:
        *names, last = line
        options = last if isinstance(last, dict) else {}
        namespace, name, *pairs = names if options else line
        if not {*options} <= {"label"}:
            raise ValueError(f"{line} uses something that is not simulated")
        dimensions = [
            {"Name": key, "Value": value}
            for key, value in zip(pairs[::2], pairs[1::2], strict=True)
        ]
        metric = {"Namespace": namespace, "MetricName": name, "Dimensions": dimensions}
        yield Shown(options.get("label", name), metric)
