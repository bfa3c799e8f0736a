"""`python -m benchmarks.cost`: what the service costs a month, from what was measured.

The default schedule, around the clock: most ticks are idle, and as a tick each ten minutes keeps no
process warm for sure, all count as cold. Lambda gives a process a share of a core that goes with
its memory, so of a tick's seconds those of the processor stretch and those of waiting do not.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.stage import show
from shared.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results.json")

# US$, list prices of us-east-1, no free tier; as known on 2026-11-23.
PRICES = {
    "Lambda, GB-second": 0.0000166667,
    "Lambda, request": 0.20 / 1e6,
    "Step Functions, transition": 0.025 / 1e3,
    "S3, GET": 0.0004 / 1e3,
    "S3, PUT": 0.005 / 1e3,
    "Secrets Manager, secret": 0.40,
    "Secrets Manager, request": 0.05 / 1e4,
    "KMS, key": 1.00,
    "CloudWatch, alarm": 0.10,
    "CloudWatch, composite alarm": 0.50,
    "CloudWatch, metric": 0.30,
    "CloudWatch, GB of logs": 0.50,
    "DMS, hour of dms.t3.micro": 0.018,
    "DMS, GB-month": 0.115,
}
HOURS = 730
TICKS = 6 * HOURS
USUAL_TICKS = TICKS // 10  # with rows in about four tables
TRANSITIONS = 3
# Each metric counts for the hours in which it has a value: those of the stage in all, those of
# tables when they have rows.
STAGE_METRICS, METRICS_A_TABLE, SHARE_OF_HOURS = 8, 2, 0.3
LOG_BYTES_A_TABLE = 550  # of a tick, which logs a line for each
MEMORY_SIZES = (512, 768, 1024, 1769, 3008)
FULL_CORE = 1769  # megabytes
ROUND_TRIPS, ROUND_TRIP_SECONDS = 4, 0.02  # to S3 and Secrets Manager, one after the other


def seconds(cpu: float, wall: float, memory: int) -> float:
    """Return what a tick takes with so much memory."""
    waiting = max(0.0, wall - cpu) + ROUND_TRIPS * ROUND_TRIP_SECONDS
    return cpu * max(1.0, FULL_CORE / memory) + waiting


def lambda_cost(took: float, memory: int) -> float:
    """Return the US$ of a month of ticks."""
    return TICKS * (took * memory / 1024 * PRICES["Lambda, GB-second"] + PRICES["Lambda, request"])


def bill(found: Mapping[str, Any], memory: int, tables: int = len(TABLES)) -> dict[str, float]:
    """Return the US$ of a month for so many tables, by what they are for.

    A tick's seconds are those of the tables that there were when it was measured: a table more
    takes less than a millisecond.
    """
    cold = found["ticks"]["cold"]
    gets = sum(found["ticks"]["requests"].values()) / found["ticks"]["tables"] * tables
    took = seconds(cold["tick_cpu"] / 1000, cold["tick"] / 1000, memory)
    metrics = STAGE_METRICS + METRICS_A_TABLE * tables * SHARE_OF_HOURS
    logged = TICKS * LOG_BYTES_A_TABLE * tables / 1e9
    return {
        "Lambda": lambda_cost(took, memory),
        "Step Functions": TICKS * TRANSITIONS * PRICES["Step Functions, transition"],
        "S3 requests": TICKS * gets * PRICES["S3, GET"] + USUAL_TICKS * 20 * PRICES["S3, PUT"],
        "Secrets Manager": PRICES["Secrets Manager, secret"]
        + TICKS * PRICES["Secrets Manager, request"],
        "Alarms and the key of their topic": _alarms() * PRICES["CloudWatch, alarm"]
        + PRICES["CloudWatch, composite alarm"]
        + PRICES["KMS, key"],
        "Metrics": metrics * PRICES["CloudWatch, metric"],
        "Logs": logged * PRICES["CloudWatch, GB of logs"],
    }


def _alarms() -> int:
    return (ROOT / "resources" / "alarms.yml").read_text().count("Type: AWS::CloudWatch::Alarm\n")


def dms() -> float:
    """Return the US$ a month of the smallest instance of DMS, with 50 GB."""
    return HOURS * PRICES["DMS, hour of dms.t3.micro"] + 50 * PRICES["DMS, GB-month"]


def rows(found: Mapping[str, Any], memory: int) -> Iterator[tuple[str, str, str]]:
    """Yield what for, how much, and beside what."""
    month = bill(found, memory)
    for name, dollars in month.items():
        yield f"US$ a month: {name}", f"{dollars:.2f}", ""
    yield f"US$ a month, {len(TABLES)} tables", f"{sum(month.values()):.2f}", f"DMS: {dms():.2f}"
    more = bill(found, memory, len(TABLES) + 1)
    yield "US$ a month, a table more", f"{sum(more.values()) - sum(month.values()):.2f}", ""
    cold = found["ticks"]["cold"]
    for size in MEMORY_SIZES:
        took = seconds(cold["tick_cpu"] / 1000, cold["tick"] / 1000, size)
        million = found["million"]["million"]["ours"]
        whole = seconds(million["cpu_seconds"], million["seconds"], size)
        yield (
            f"with {size} MB: cold idle tick, 1,000,000 rows, Lambda a month",
            f"{took:.1f} s, {whole:.0f} s, {lambda_cost(took, size):.2f}",
            "",
        )


def main() -> None:
    """Print the bill for the figures that `make bench` left."""
    show(rows(json.loads(RESULTS.read_text()), FULL_CORE))


if __name__ == "__main__":
    main()
