"""`python -m benchmarks.cost`: what a stage costs a month, from what was measured.

Two stages, around the clock with the default schedule: a quiet one, in which no tick finds
anything, and one with news in four tables at every tick. A tick each ten minutes keeps no process
warm for sure, so all count as cold. Lambda gives a process a share of a core that goes with its
memory, so seconds of the processor stretch and those of waiting do not.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks.stage import show
from shared.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).with_name("results.json")

# US$, list prices of eu-west-2 without free tiers and taxes, from AWS's price lists of September
# and October 2026; read on 2026-11-27. Emails: of us-east-1, as London's was not found.
PRICES = {
    "Lambda, GB-second": 0.0000166667,
    "Lambda, request": 0.20 / 1e6,
    "Step Functions, transition": 0.025 / 1e3,
    "S3, GET": 0.00042 / 1e3,
    "S3, PUT or LIST": 0.0053 / 1e3,
    "S3, GB-month": 0.024,
    "Secrets Manager, secret": 0.40,
    "Secrets Manager, request": 0.05 / 1e4,
    "CloudWatch, alarm": 0.10,  # for each metric that it watches
    "CloudWatch, metric": 0.30,
    "CloudWatch, dashboard": 3.00,
    "CloudWatch, GB of logs": 0.5985,
    "CloudWatch, GB-month of logs": 0.0315,
    "CloudWatch, GB scanned": 0.0059,
    "SNS, email": 2.00 / 1e5,
    "VPC, hour of an interface endpoint": 0.011,
    # us-east-1, 2026-11-23:
    "DMS, hour of dms.t3.micro": 0.018,
    "DMS, GB-month": 0.115,
}
HOURS = 730
TICKS = 6 * HOURS
NIGHTS = HOURS / 24
MONTHS = (1, 12, 36)
TRANSITIONS = 3
NEWS_TABLES = 4  # of the usual tick that was measured
# An object, its claim, and an object of the change stream; the measured tick has no changes.
KINDS_OF_OBJECTS = 3
PAGE = 1000  # objects that a LIST returns
# Assumed: the metric of each filter has a value in two hours a month, those in which something is
# wrong. An hour without a value costs nothing: https://aws.amazon.com/cloudwatch/pricing/
METRIC_HOURS = 2
EMAILS = 50
RETENTION_MONTHS = 12  # of stage prod
# What AWS adds to a line: 26 bytes of its own, and the id of a trace that powertools logs there.
BYTES_A_LINE = 26 + 54
LAMBDA_LINES, LAMBDA_BYTES = 4, 430  # INIT_START, START, END and REPORT of a call
NIGHT_BYTES_A_TABLE = 450
MEMORY_SIZES = (512, 768, 1024, 1769, 3008)
RECONCILE_MEMORY = 1769
FULL_CORE = 1769  # megabytes
ROUND_TRIPS, ROUND_TRIP_SECONDS = 4, 0.02  # to S3 and Secrets Manager, one after the other
LIST_SECONDS = 0.1  # that a page takes to come
READERS = 8  # of the reconciliation, at the same time
NIGHT_SECONDS = 900 - 120  # what a call may take, but for its last table's comparison


@dataclass(frozen=True)
class Stage:
    """A stage in some month.

    Attributes:
        memory: the ingest function's, in megabytes.
        tables: how many tables it has.
        has_news: whether each tick finds new and changed rows in four tables, or none.
        month: how many months old it is when the month ends.
    """

    memory: int
    tables: int = len(TABLES)
    has_news: bool = False
    month: int = 1


def seconds(cpu: float, waiting: float, memory: int) -> float:
    """Return what something takes with so much memory, from its times with a whole core."""
    return cpu * max(1.0, FULL_CORE / memory) + waiting


def tick_seconds(found: Mapping[str, Any], memory: int, kind: str = "tick") -> float:
    """Return what a cold tick takes: an idle one, or a `usual` one."""
    wall, cpu = (found["ticks"]["cold"][name] / 1000 for name in (kind, f"{kind}_cpu"))
    return seconds(cpu, max(0.0, wall - cpu) + ROUND_TRIPS * ROUND_TRIP_SECONDS, memory)


def night_seconds(found: Mapping[str, Any], stage: Stage) -> float:
    """Return what a reconciliation takes on the last night of the month."""
    nights, per_tick = found["nights"], _news_gets(found)
    quiet, news = nights["quiet"], _night_objects(stage) / per_tick
    requests = sum(quiet["requests"].values())
    cpu_of_tick = (nights["news"]["cpu"] - quiet["cpu"]) / nights["ticks"]
    cpu = quiet["cpu"] + news * cpu_of_tick + _pages(stage) * nights["page_cpu"]
    waiting = (requests + news * per_tick / READERS) * ROUND_TRIP_SECONDS
    return seconds(cpu / 1000, waiting + _pages(stage) * LIST_SECONDS, RECONCILE_MEMORY)


def lambda_cost(calls: float, took: float, memory: int) -> float:
    """Return the US$ of some calls."""
    return calls * (took * memory / 1024 * PRICES["Lambda, GB-second"] + PRICES["Lambda, request"])


def bill(found: Mapping[str, Any], stage: Stage) -> dict[str, float]:
    """Return the US$ of a month, by what they are for.

    A tick's seconds are those of the tables that there were when it was measured: a table more
    takes less than a millisecond.
    """
    took = tick_seconds(found, stage.memory, "usual" if stage.has_news else "tick")
    secret = PRICES["Secrets Manager, secret"]
    logged = log_bytes(found, stage) / 1e9
    kept = min(stage.month, RETENTION_MONTHS)
    return {
        "alarms": watched_metrics() * PRICES["CloudWatch, alarm"],
        "the secret": secret + (TICKS + NIGHTS) * PRICES["Secrets Manager, request"],
        "Step Functions": TICKS * TRANSITIONS * PRICES["Step Functions, transition"],
        "Lambda, ingest": lambda_cost(TICKS, took, stage.memory),
        "Lambda, reconcile": lambda_cost(NIGHTS, night_seconds(found, stage), RECONCILE_MEMORY),
        "S3, requests of ticks": _tick_requests(found, stage),
        "S3, requests of the reconciliation": _night_requests(found, stage),
        "logs, written": logged * PRICES["CloudWatch, GB of logs"],
        "logs, kept": logged * kept * PRICES["CloudWatch, GB-month of logs"],
        "metrics of the filters": filters() * METRIC_HOURS / HOURS * PRICES["CloudWatch, metric"],
        "alarm emails": EMAILS * PRICES["SNS, email"],
    }


def apart(found: Mapping[str, Any], stage: Stage) -> dict[str, float]:
    """Return the US$ a month of what not every stage pays, or what is not the service's."""
    usual = found["ticks"]["counted"]["usual"]
    scanned = log_bytes(found, stage) / NIGHTS * _log_widgets() / 1e9
    return {
        "the dashboard, beyond an account's third": PRICES["CloudWatch, dashboard"],
        "1,000 refreshes of the dashboard": 1000 * scanned * PRICES["CloudWatch, GB scanned"],
        # As much as a night without news, which looks at all tables.
        "deletes at every tick, at most": lambda_cost(
            TICKS, night_seconds(found, replace(stage, has_news=False)), RECONCILE_MEMORY
        ),
        "storage of a million rows": usual["bytes"] / usual["rows"] / 1e3 * PRICES["S3, GB-month"],
        "an interface endpoint for Secrets Manager, in one zone": HOURS
        * PRICES["VPC, hour of an interface endpoint"],
        "metrics of the filters, if each had a value in every hour": filters()
        * PRICES["CloudWatch, metric"],
    }


def log_bytes(found: Mapping[str, Any], stage: Stage) -> float:
    """Return how many bytes a stage logs in a month."""
    counted = found["ticks"]["counted"]["usual" if stage.has_news else "idle"]
    share = stage.tables / found["ticks"]["tables"]
    tick = (counted["log_bytes"] + counted["log_lines"] * BYTES_A_LINE) * share
    of_lambda = LAMBDA_BYTES + LAMBDA_LINES * BYTES_A_LINE
    night = stage.tables * (NIGHT_BYTES_A_TABLE + BYTES_A_LINE) + of_lambda
    return float(TICKS * (tick + of_lambda) + NIGHTS * night)


def watched_metrics() -> int:
    """Return how many metrics the alarms watch: an alarm is charged for each of them."""
    declared = yaml.safe_load((ROOT / "resources" / "alarms.yml").read_text()).values()
    alarms = [each["Properties"] for each in declared if "Type" in each]
    return sum(
        sum("MetricStat" in each for each in alarm.get("Metrics", ())) or 1 for alarm in alarms
    )


def filters() -> int:
    """Return how many metric filters there are; each has a metric of its own."""
    declared = yaml.safe_load((ROOT / "resources" / "logs.yml").read_text()).values()
    return sum(each["Type"] == "AWS::Logs::MetricFilter" for each in declared)


def months_until_late(found: Mapping[str, Any], stage: Stage) -> int:
    """Return after how many months a reconciliation does not end in a call, if it has news."""
    month = 1
    while night_seconds(found, replace(stage, month=month)) <= NIGHT_SECONDS:
        month += 1
    return month


def dms() -> float:
    """Return the US$ a month of the smallest instance of DMS, with 50 GB."""
    return HOURS * PRICES["DMS, hour of dms.t3.micro"] + 50 * PRICES["DMS, GB-month"]


def _log_widgets() -> int:
    return len(re.findall('"type": "log"', (ROOT / "resources" / "dashboard.yml").read_text()))


def _tick_requests(found: Mapping[str, Any], stage: Stage) -> float:
    counted = found["ticks"]["counted"]
    idle, usual = counted["idle"]["requests"], counted["usual"]["requests"]
    gets = idle["GET"] * stage.tables / found["ticks"]["tables"]
    if not stage.has_news:
        return float(TICKS * gets * PRICES["S3, GET"])
    gets += usual["GET"] - idle["GET"]
    puts = usual["PUT"] + usual["LIST"] + NEWS_TABLES  # one more for the changes of each
    return float(TICKS * (gets * PRICES["S3, GET"] + puts * PRICES["S3, PUT or LIST"]))


def _night_requests(found: Mapping[str, Any], stage: Stage) -> float:
    nights, share = found["nights"], stage.tables / found["ticks"]["tables"]
    quiet, news = nights["quiet"]["requests"], nights["news"]["requests"]
    gets = quiet["GET"] * share + _night_objects(stage)
    lists = quiet["LIST"] * share + _pages(stage)
    puts = 1 + (news["PUT"] if stage.has_news else 0)  # the report, and the inventory
    each = gets * PRICES["S3, GET"] + (lists + puts) * PRICES["S3, PUT or LIST"]
    return float(NIGHTS * each)


def _news_gets(found: Mapping[str, Any]) -> float:
    """Return how many objects a reconciliation read for each of the measured ticks with news."""
    nights = found["nights"]
    more = nights["news"]["requests"]["GET"] - nights["quiet"]["requests"]["GET"]
    return float(more / nights["ticks"])


def _night_objects(stage: Stage) -> int:
    """Return how many objects a reconciliation reads: those of the day."""
    return TICKS // round(NIGHTS) * NEWS_TABLES * KINDS_OF_OBJECTS if stage.has_news else 0


def _pages(stage: Stage) -> int:
    """Return how many pages a reconciliation lists beyond the first one of each folder."""
    pages = ceil(TICKS * stage.month / PAGE) - 1
    return pages * NEWS_TABLES * KINDS_OF_OBJECTS if stage.has_news else 0


def rows(found: Mapping[str, Any], memory: int) -> Iterator[tuple[str, str, str]]:
    """Yield what for, how much, and beside what."""
    for has_news, name in ((False, "quiet"), (True, "news in 4 tables")):
        stages = [Stage(memory, has_news=has_news, month=month) for month in MONTHS]
        yield f"US$ a month, {name}, in months {MONTHS}", "", ""
        bills = [bill(found, stage) for stage in stages]
        for what in bills[0]:
            yield f"  {what}", _dollars(each[what] for each in bills), ""
        aim = f"DMS: {dms():.2f}" if has_news else "< 3.00"
        yield "  in all", _dollars(sum(each.values()) for each in bills), aim
        for what, dollars in apart(found, stages[0]).items():
            yield f"  apart: {what}", f"{dollars:.4f}", ""
        took = ", ".join(f"{night_seconds(found, stage):.0f}" for stage in stages)
        yield "  seconds of a reconciliation", took, f"<= {NIGHT_SECONDS}"
    quiet = Stage(memory)
    more = sum(bill(found, replace(quiet, tables=quiet.tables + 1)).values())
    yield "US$ a month, a table more", f"{more - sum(bill(found, quiet).values()):.3f}", ""
    yield from _memory_rows(found)


def _dollars(amounts: Iterator[float]) -> str:
    return "  ".join(f"{dollars:.2f}" for dollars in amounts)


def _memory_rows(found: Mapping[str, Any]) -> Iterator[tuple[str, str, str]]:
    million = found["race"]["racers"]["ours"]
    waiting = max(0.0, million["seconds"] - million["cpu_seconds"])
    for size in MEMORY_SIZES:
        took = tick_seconds(found, size)
        whole = seconds(million["cpu_seconds"], waiting, size)
        yield (
            f"with {size} MB: cold idle tick, 1,000,000 rows, Lambda a month",
            f"{took:.1f} s, {whole:.0f} s, {lambda_cost(TICKS, took, size):.2f}",
            "",
        )


def main() -> None:
    """Print the bill for the figures that `make bench` left."""
    show(rows(json.loads(RESULTS.read_text()), FULL_CORE))


if __name__ == "__main__":
    main()
