"""`python -m benchmarks.growth`: a first load of 100,000 rows, and of 100 times as many.

What is said of a million rows must hold for more: the time a row, the memory, and the run that
finds nothing new. The specification taken by its words is compared on the fewer rows, because it
holds all of them in memory.
"""

from __future__ import annotations

from functools import partial
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.laps import in_turn
from benchmarks.racers import LAP, REPEATS, Contender, ours
from benchmarks.stage import orders_server, show

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.laps import Cost
    from local.totesys.database import Server

FEW, MANY = 100_000, 10_000_000
IDLE_RUNS = 25
WAYS = {way: Contender(way, ours(way)) for way in ("ours", "literal")}


def measure() -> dict[str, Any]:
    """Return all figures."""
    with orders_server(FEW) as server:
        laps = {way: partial(each.lap, server, FEW) for way, each in WAYS.items()}
        few = in_turn(laps, dict.fromkeys(laps, REPEATS))
        _, few_idle = _load_then_idle(server, FEW)
    with orders_server(MANY) as server:
        many, many_idle = _load_then_idle(server, MANY)
    return {
        "few": {way: cost._asdict() for way, cost in few.items()},
        "many": many._asdict(),
        "idle_milliseconds": {"few": few_idle, "many": many_idle},
    }


def _load_then_idle(server: Server, rows: int) -> tuple[Cost, float]:
    """Return what a load takes, and the median of the runs after it, in milliseconds."""
    with WAYS["ours"].start(server) as racer:
        cost = racer.lap(LAP, server, rows)
        idle = median(racer.lap(LAP, server, 0).seconds for _ in range(IDLE_RUNS))
    return cost, idle * 1000


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, the figure, and what was aimed at."""
    few, many, idle = found["few"], found["many"], found["idle_milliseconds"]
    yield f"{MANY:,} rows, peak memory", f"{many['peak_megabytes']:.0f} MB", "<= 400 MB"
    per_row = many["seconds"] / MANY / (few["ours"]["seconds"] / FEW)
    yield f"{MANY:,} rows, time per row, of that of {FEW:,}", f"{per_row:.2f}", "0.8 to 1.2"
    yield (
        f"idle run, {MANY:,} rows, of one with {FEW:,}, with boto3's work",
        f"{idle['many'] / idle['few']:.2f} ({idle['many']:.1f} ms)",
        "1",
    )
    ratio = few["literal"]["seconds"] / few["ours"]["seconds"]
    yield f"{FEW:,} rows by the specification by its words, of ours", f"{ratio:.1f}", ""


def main() -> None:
    """Print the figures."""
    show(rows(measure()))


if __name__ == "__main__":
    main()
