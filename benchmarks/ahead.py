"""`python -m benchmarks.ahead`: what it is worth to read a batch while the one before it lands.

A million sales orders are landed in an S3 that takes 100 ms for a request and 80 MB a second for a
body, as a real one does for one connection; in turn with read-ahead, and without it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.laps import in_turn
from benchmarks.racers import Contender, ours
from benchmarks.stage import orders_server, show

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS, REPEATS = 1_000_000, 3
_WAYS = {"ahead": "paced", "one by one": "one-by-one"}


def measure() -> dict[str, Any]:
    """Return what each way takes."""
    with orders_server(ROWS) as server:
        laps = {
            name: partial(Contender(name, ours(way)).lap, server, ROWS)
            for name, way in _WAYS.items()
        }
        costs = in_turn(laps, dict.fromkeys(laps, REPEATS))
    return {"rows": ROWS, "ways": {name: cost._asdict() for name, cost in costs.items()}}


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, the figure, and what was aimed at."""
    ahead, alone = (found["ways"][name]["seconds"] for name in _WAYS)
    yield (
        f"{found['rows']:,} rows, S3 of 100 ms and 80 MB/s, of the same without read-ahead",
        f"{ahead / alone:.2f} ({ahead:.1f} s)",
        "<= 0.9",
    )


if __name__ == "__main__":
    show(rows(measure()))
