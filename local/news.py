"""What a tick brought, in a line: read from what the functions logged, as CloudWatch would."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from local.aws.function_log import calls, emitted

if TYPE_CHECKING:
    from collections.abc import Sequence

# What is said of a metric that has a value for a table.
_NEW, _CHANGED, _HELD_BACK = "RowsIngested", "ChangesLanded", "HeldBackRows"


def news(lines: Sequence[str]) -> list[str]:
    """Return what an execution did, such as `payment 2 changed`; empty if nothing was new.

    Args:
        lines: what its calls of the function logged.
    """
    in_order = list(calls(lines))
    last = in_order[-1] if in_order else []
    found = [
        *_tables(lines, _NEW, "new"),
        *_tables(lines, _CHANGED, "changed"),
        *_tables(last, _HELD_BACK, "held back"),
    ]
    errors = sum(_level(line) == "ERROR" for line in lines)
    return [*found, *([f"{errors} ERROR line{'s' * (errors > 1)}"] if errors else [])]


def _tables(lines: Sequence[str], name: str, word: str) -> list[str]:
    """Return what a metric sums up to, table by table, and what it is called."""
    sums: dict[str, int] = {}
    for line in lines:
        for metric in emitted(line):
            if metric.name == name and metric.value and "table" in metric.dimensions:
                table = metric.dimensions["table"]
                sums[table] = sums.get(table, 0) + int(metric.value)
    return [", ".join(f"{table} {rows:,}" for table, rows in sums.items()) + f" {word}"] * bool(
        sums
    )


def _level(line: str) -> object:
    return json.loads(line).get("level") if line.startswith("{") else None
