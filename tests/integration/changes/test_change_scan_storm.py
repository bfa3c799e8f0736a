"""Both streams under a storm of writers and updaters: together they are the table."""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from threading import Event
from typing import TYPE_CHECKING

import pytest

from local.storms.writers import TABLES, Writer, create_tables
from services.ingestion import Limits
from shared.bucket import keys
from shared.tables import Table
from tests.helpers.oracle.exactly_once import check_changes, content
from tests.helpers.runs.changing import run_within
from tests.helpers.runs.place import Place
from tests.helpers.writers.updaters import (
    UPDATERS,
    Updater,
    add_restless_rows,
    update_again_and_again,
)

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.thorough

WRITERS = 4


@dataclass
class Figures:
    """How a storm went on one table.

    Attributes:
        rows: what the table holds in the end.
        changes: how many rows are in its change stream.
        again: how many of them say what was said before: a long transaction, rows held back, or an
            update that changes nothing.
        marks: from how many marks the objects were read: fewer, if rows are held back.
        objects: of the change stream.
        restless: in how many of them is the row that was updated every 50 ms.
    """

    rows: int
    changes: int
    again: int
    marks: int
    objects: int
    restless: int


def tick(place, over, seconds):
    """Run again and again, as the schedule does; return how often."""
    runs = 0
    while not over.wait(seconds):
        run_within(place, Limits(500, writer_wait_seconds=0.5))
        runs += 1
    return runs


def storm(place, *, seconds, tick_seconds, longest_seconds, tickers, seed=1):
    """Let writers and updaters loose on a place, with runs all the while; return the figures."""
    over, still = Event(), Event()
    connect = place.database.connect
    work: list[Callable[[], Counter[str]]] = [partial(update_again_and_again, connect(), over)]
    work += [Writer(n, connect(), over, longest_seconds, seed).run for n in range(WRITERS)]
    work += [Updater(n, connect(), over, longest_seconds, seed).run for n in range(UPDATERS)]
    with ThreadPoolExecutor(len(work) + tickers) as pool:
        ticking = [pool.submit(tick, place, still, tick_seconds) for _ in range(tickers)]
        working = [pool.submit(job) for job in work]
        end = time.monotonic() + seconds
        while time.monotonic() < end and not any(task.done() for task in working + ticking):
            over.wait(0.05)
        over.set()
        taken = sum((task.result() for task in working), Counter())
        still.set()
        runs = sum(task.result() for task in ticking)
    return runs, taken


def figures(place, table):
    objects = content(place.bucket)
    names = [key for key in sorted(objects) if key.startswith(keys.change_folder(Table(table)))]
    stream = [objects[name] for name in names if keys.is_change_key(name)]
    lines = [line for body, _ in stream for line in body.splitlines()]
    with closing(place.database.connect()) as connection:
        check_changes(table, objects, connection)
        [[rows]] = connection.run(f"SELECT count(*) FROM {table}")
    return Figures(
        rows=rows,
        changes=len(lines),
        again=len(lines) - len(set(lines)),
        marks=len({metadata["base"] for _, metadata in stream}),
        objects=len(stream),
        restless=sum(b"restless" in body for body, _ in stream),
    )


@pytest.fixture
def place(database, bucket):
    place = Place(database, bucket, TABLES, {}, with_changes=True)
    create_tables(database.connect())
    add_restless_rows(database.connect())
    # Writers hold the watermark back for long, and only what has landed can change.
    for table in TABLES:
        place.execute(
            f"INSERT INTO {table} (bucket, note) SELECT n % 2, 'old' FROM generate_series(1, 200) n"
        )
    place.run()
    return place


def finish(place):
    """Run until nothing is left: held back rows need a second run."""
    place.execute("SELECT pg_stat_force_next_flush()")
    for _ in range(3):
        place.run()


def hold(place, runs, taken):
    print(f"{runs} runs, {sum(taken.values())} statements and ends: {dict(taken)}")
    assert len(taken) > 20  # every way to write was taken
    for table in TABLES:
        found = figures(place, table)
        print(table, asdict(found))
        assert found.rows > 200
        assert found.changes > 100
        assert found.restless >= 2  # it is never starved
        assert found.objects >= found.restless


@pytest.mark.parametrize(
    "tickers",
    [pytest.param(1, marks=pytest.mark.long), 2],
    ids=["a run at a time", "two runs at once"],
)
def test_both_streams_are_the_table(place, tickers):
    went = storm(place, seconds=4, tick_seconds=0.2, longest_seconds=1, tickers=tickers)
    finish(place)
    hold(place, *went)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2, 5))
@pytest.mark.parametrize("tickers", [1, 3])
def test_both_streams_are_the_table_for_longer(place, tickers, seed):
    went = storm(place, seconds=25, tick_seconds=0.7, longest_seconds=4, tickers=tickers, seed=seed)
    finish(place)
    hold(place, *went)
