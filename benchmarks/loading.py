"""`python -m benchmarks.loading`: how long a load of a billion rows takes, and what it costs.

A simulation, because nobody has such a table to spare: workers, each with a core of Lambda, take
items one after the other, and share the cores of the server. What a batch takes of either is
measured (`workers`); what AWS adds is assumed, below.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from heapq import heapify, heappop, heappush
from math import ceil, log2
from typing import TYPE_CHECKING, Any

from benchmarks.cost import FULL_CORE, PAGE, PRICES, RESULTS, ROOT, ROUND_TRIP_SECONDS, lambda_cost
from benchmarks.stage import show
from local.charts import draw_columns, draw_lines, new_figure, set_title

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from matplotlib.figure import Figure

CHART = ROOT / "docs" / "loading.svg"
ROWS, BATCH_ROWS, MOST_ITEMS = 1_000_000_000, 50_000, 1_000
WORKERS, CORES = (1, 2, 4, 8, 16, 32, 64), (2, 4, 8, 16)

# Assumed, in seconds, for a function in the region of its bucket.
PUT_SECONDS, PUT_BYTES_A_SECOND = 0.1, 80e6
CLAIM_SECONDS = 0.03  # a small PUT
GETS = 2  # of a batch: its claim, and whether it has landed
COLD_START_SECONDS = 2.0  # each worker's first call, with pandas
CALL_SECONDS = 0.5  # Step Functions starts an execution for an item, which logs in
PLAN_CALL_SECONDS = 180  # of a call of the plan, three quarters of timeoutSeconds
FINISH_SECONDS = 180  # the last run scans for changes, until its time is up
TRANSITIONS = {"item": 3, "plan": 2, "others": 3}


@dataclass(frozen=True)
class Batch:
    """What a batch takes, in seconds.

    Attributes:
        server: of a core of the server, while the worker waits.
        worker: of the worker, with its requests to S3.
        plan: of the planner, with its claim.
    """

    server: float
    worker: float
    plan: float


@dataclass(frozen=True)
class Loaded:
    """What a load takes: the seconds of its plan, and those until its batches have landed.

    Attributes:
        plan: seconds of the plan, by one call after the other.
        landing: seconds of the Map.
        busy: seconds of all workers together.
    """

    plan: float
    landing: float
    busy: float

    @property
    def hours(self) -> float:
        """How long the load takes in all."""
        return (self.plan + self.landing + FINISH_SECONDS) / 3600


def batch(found: Mapping[str, Any]) -> Batch:
    """Return what a batch takes, from what was measured with a single worker."""
    batches, alone, plan = found["batches"], found["workers"]["1"], found["plan"]
    put = PUT_SECONDS + found["bytes"] / batches / PUT_BYTES_A_SECOND
    requests = GETS * ROUND_TRIP_SECONDS + put
    return Batch(
        alone["server_seconds"] / batches,
        alone["cpu_seconds"] / batches + requests,
        (plan["cpu_seconds"] + plan["server_seconds"]) / batches + CLAIM_SECONDS,
    )


def simulate(each: Batch, workers: int, cores: int, batches: int = ROWS // BATCH_ROWS) -> Loaded:
    """Return what a load takes by some workers from a server with some cores.

    Whoever asks the server first is served first; each batch takes one core.
    """
    an_item = ceil(batches / MOST_ITEMS)
    free = [0.0] * cores
    # When each worker asks the server next, how many batches are left of its item, and for how
    # long it has worked.
    ready = [(COLD_START_SECONDS + CALL_SECONDS, number) for number in range(workers)]
    in_item = [0] * workers
    heapify(ready)
    left, busy, last = batches, 0.0, 0.0
    while left:
        asked, number = heappop(ready)
        begun = max(asked, heappop(free))
        heappush(free, begun + each.server)
        done = begun + each.server + each.worker
        left, in_item[number] = left - 1, (in_item[number] + 1) % an_item
        busy += done - asked
        last = max(last, done)
        call = 0.0 if in_item[number] else CALL_SECONDS
        heappush(ready, (done + call, number))
    calls = ceil(batches / an_item) * CALL_SECONDS + min(workers, batches) * COLD_START_SECONDS
    return Loaded(each.plan * batches, last, busy + calls)


def plan_hours(each: Batch) -> float:
    """Return how long the plan takes."""
    return each.plan * (ROWS // BATCH_ROWS) / 3600


def hours_by_runs(found: Mapping[str, Any]) -> float:
    """Return how long the ordinary runs take for as many rows, one batch after the other.

    They read the next batch meanwhile. In 600 s they run for `backlogSeconds`, and once more.

    Args:
        found: all that was measured: the size of a batch is that of the load.
    """
    load, run = found["loading"], found["race"]["racers"]["ours"]
    put = PUT_SECONDS + load["bytes"] / load["batches"] / PUT_BYTES_A_SECOND
    requests = put + 2 * CLAIM_SECONDS  # the claim, and latest.json
    each: float = run["cpu_seconds"] / load["batches"] + requests
    return each * (ROWS // BATCH_ROWS) * 600 / (300 + PLAN_CALL_SECONDS) / 3600


def bill(loaded: Loaded, batches: int = ROWS // BATCH_ROWS) -> dict[str, float]:
    """Return the US$ of a load, by what they are for."""
    items, plan_calls = min(batches, MOST_ITEMS), ceil(loaded.plan / PLAN_CALL_SECONDS)
    calls = items + plan_calls + 1
    seconds = loaded.busy + loaded.plan + FINISH_SECONDS
    steps = TRANSITIONS["item"] * items + TRANSITIONS["plan"] * plan_calls + TRANSITIONS["others"]
    pages = 2 * 2 * ceil(batches / PAGE)  # claims and objects, when it begins and when it ends
    return {
        "Lambda": lambda_cost(calls, seconds / calls, FULL_CORE),
        "Step Functions": steps * PRICES["Step Functions, transition"],
        "S3, claims and objects": (2 * batches + pages) * PRICES["S3, PUT or LIST"],
        "S3, reading claims": GETS * batches * PRICES["S3, GET"],
    }


def chart(found: Mapping[str, Any]) -> Figure:
    """Draw the hours by workers and cores, and what was measured here."""
    figure, axes = new_figure([(2, 2.6)])
    each = batch(found)
    set_title(axes[0], "Hours for 1,000,000,000 rows, by the number of workers")
    lines = {
        f"{cores} cores": [(log2(n), simulate(each, n, cores).hours) for n in WORKERS]
        for cores in CORES
    }
    plan = [(log2(n), plan_hours(each)) for n in WORKERS]
    draw_lines(axes[0], lines | {"the plan alone": plan})
    axes[0].set_xticks([log2(n) for n in WORKERS], [str(n) for n in WORKERS])
    set_title(axes[1], "Seconds for 1,000,000 rows, two cores for workers and server")
    measured = found["workers"].items()
    names = {"1": "1 worker"}
    columns = {names.get(n, f"{n} workers"): took["seconds"] for n, took in measured}
    draw_columns(axes[1], {"": columns})
    return figure


def rows(measured: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what for, and how much."""
    each = batch(measured["loading"])
    yield "hours for 1,000,000,000 rows, cores of the server", "  ".join(map(str, CORES)), ""
    for workers in WORKERS:
        hours = [simulate(each, workers, cores).hours for cores in CORES]
        yield f"  {workers} workers", "  ".join(f"{took:.1f}" for took in hours), ""
    yield "  of these, the plan", f"{plan_hours(each):.2f}", ""
    yield "  by runs, without a load", f"{hours_by_runs(measured):.1f}", ""
    for workers in (1, 8, 64):
        costs = bill(simulate(each, workers, CORES[1]))
        yield f"US$ by {workers} workers, {CORES[1]} cores", f"{sum(costs.values()):.2f}", ""
        for what, dollars in costs.items():
            yield f"  {what}", f"{dollars:.2f}", ""


def main() -> None:
    """Print the figures that follow from what `make bench` left."""
    show(rows(json.loads(RESULTS.read_text())))


if __name__ == "__main__":
    main()
