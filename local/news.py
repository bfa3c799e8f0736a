"""What a tick brought, in a line: read from what the functions logged."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local.aws.function_log import calls

if TYPE_CHECKING:
    from collections.abc import Sequence


def news(lines: Sequence[str]) -> list[str]:
    """Return what an execution did, such as `payment 2 changed`; empty if nothing was new.

    Args:
        lines: what its calls of the function logged.
    """
    in_order = list(calls(lines))
    last = in_order[-1] if in_order else []
    found = [
        *_tables(lines, "rows", "new"),
        *_tables(lines, "changes", "changed"),
        *_tables(last, "held_back_rows", "held back"),
    ]
    errors = sum(_record(line).get("level") == "ERROR" for line in lines)
    return [*found, *([f"{errors} ERROR line{'s' * (errors > 1)}"] if errors else [])]


def _tables(lines: Sequence[str], field: str, word: str) -> list[str]:
    """Return what a figure of the tables' lines sums up to, and what it is called."""
    sums: dict[str, int] = {}
    for record in map(_record, lines):
        if record.get("message") == "Table ingested" and record[field]:
            sums[record["table"]] = sums.get(record["table"], 0) + record[field]
    told = ", ".join(f"{table} {rows:,}" for table, rows in sums.items())
    return [f"{told} {word}"] if sums else []


def _record(line: str) -> dict[str, Any]:
    record: dict[str, Any] = json.loads(line) if line.startswith("{") else {}
    return record
