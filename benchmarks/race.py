"""`python -m benchmarks.race [rows]`: who writes a table as JSON lines how fast, and who exactly.

Each racer writes a million sales orders of one server in the order of their ids, in turn, in a
process of its own: to /dev/null, dlt to a folder, and we to an S3 that throws rows away. The clock
runs from when a racer is connected and has loaded what it needs until it has written all. Then each
writes the odd values. Fewer rows are for trying it out: results.json keeps those of a million.
"""

from __future__ import annotations

import json
import math
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks import odd_values
from benchmarks.cost import RESULTS
from benchmarks.laps import in_turn
from benchmarks.peers.venv import peers_python
from benchmarks.racers import FIRST, contenders
from benchmarks.sink import sink
from benchmarks.stage import orders_server

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

ROWS = 1_000_000
# The most that the machine's load may be before the race, and after it: a racer and a backend.
_IDLE, _ALONE = 0.5, 2.0
EXACT, INEXACT = "all odd values right", "some odd values wrong"
_COLUMNS = ("seconds", "times", "CPU", "server's CPU", "MB", "odd values")


def measure(rows: int = ROWS) -> dict[str, Any]:
    """Return all figures: the load of the machine, and each racer's, by its key."""
    before, python = os.getloadavg()[0], peers_python()
    with sink() as outside, orders_server(rows) as server:
        field = contenders(python, outside)
        costs = in_turn(
            {key: partial(each.lap, server, rows) for key, each in field.items()},
            {key: each.rounds for key, each in field.items()},
        )
        after = os.getloadavg()[0]
        odd_values.create(server)
        verdicts = {
            key: odd_values.judge(each, server)._asdict()
            for key, each in field.items()
            if each.is_json and key != "sent"  # it is `ours`
        }
    racers = {
        key: {"name": each.name, **costs[key]._asdict(), "odd": verdicts.get(key)}
        for key, each in field.items()
    }
    return {"rows": rows, "load": [before, after], "racers": racers}


def verdict(racer: dict[str, Any]) -> str:
    """Return in a few words how a racer wrote the odd values."""
    odd = racer["odd"]
    if not odd:
        return "-"
    wrong = sum(odd["wrong"].values())
    return f"{wrong} of {odd['values']} wrong" if wrong else "exact"


def columns(found: dict[str, Any]) -> dict[str, dict[str, float]]:
    """Return the seconds of those who write JSON lines, apart by whether they are exact.

    dlt is left out: beside it the others could not be told from each other.
    """
    series: dict[str, dict[str, float]] = {EXACT: {}, INEXACT: {}}
    for key, racer in found["racers"].items():
        if racer["odd"] and key != "dlt":
            is_exact = not racer["odd"]["wrong"]
            series[EXACT if is_exact else INEXACT][racer["name"]] = racer["seconds"]
    return series


def table(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines of the race's table, as docs/performance.md has it."""
    racers = found["racers"]
    first = racers[FIRST]["seconds"] if FIRST in racers else math.nan
    yield _line(f"{found['rows']:,} rows", _COLUMNS)
    yield _line("---", ["---:"] * len(_COLUMNS))
    for racer in racers.values():
        yield _line(
            _one_line(racer["name"]),
            [
                *(f"{racer['seconds']:.2f}", f"{racer['seconds'] / first:.2f}"),
                *(f"{racer['cpu_seconds']:.2f}", f"{racer['server_seconds']:.2f}"),
                *(f"{racer['peak_megabytes']:.0f}", verdict(racer)),
            ],
        )


def remarks(found: dict[str, Any]) -> Iterator[str]:
    """Yield what failed with its first words, and whether the race was fair."""
    for racer in found["racers"].values():
        for type_, words in (racer["odd"] or {}).get("failed", {}).items():
            yield f"{_one_line(racer['name'])} fails on {type_}: {words}"
    before, after = found["load"]
    yield f"Load of the machine: {before:.2f} before, {after:.2f} after."
    if before > _IDLE or after > _ALONE:
        yield "WARNING: the machine was not idle. Don't keep these figures: race again when it is."


def _line(name: str, cells: Sequence[str]) -> str:
    widths = (7, 5, 5, 12, 4, 15)
    padded = (f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
    return f"| {name:26} | {' | '.join(padded)} |"


def _one_line(name: str) -> str:
    return name.replace("\n", " ")


def main(rows: int = ROWS) -> None:
    """Race, print, and keep the figures."""
    found = measure(rows)
    print(*table(found), *remarks(found), sep="\n")
    if rows == ROWS:
        results = json.loads(RESULTS.read_text()) | {"race": found}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
