"""Copies kept by `read_new` in a storm of writers, deletes, runs, reconciliations and deaths."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from functools import partial
from threading import Event

import boto3
import pytest

from local.storms.writers import PARTITIONED, TABLES, Writer, create_tables
from services.ingestion import Limits
from shared.bucket import read_new
from shared.errors import SourceUnavailableError, TransientIngestionError, UnfinishedError
from tests.helpers.oracle.exactly_once import check_equal, content
from tests.helpers.runs.changing import compare, run_within
from tests.helpers.runs.place import Died, Place
from tests.helpers.writers import upheavals
from tests.helpers.writers.updaters import UPDATERS, Updater

pytestmark = pytest.mark.thorough

WRITERS = 3

# Each state that a row has had, unless its transaction was rolled back.
HISTORY = (
    "CREATE TABLE had (of_table text, state jsonb)",
    "CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql AS "
    "$$ BEGIN INSERT INTO had VALUES (TG_ARGV[0], to_jsonb(NEW)); RETURN NULL; END $$",
    *(
        f"CREATE TRIGGER remember AFTER INSERT OR UPDATE ON {table} "
        f"FOR EACH ROW EXECUTE FUNCTION remember('{table}')"
        for table in TABLES
    ),
    # A partition that is detached has the trigger of its table no more.
    f"CREATE TRIGGER remember_alone AFTER INSERT ON {PARTITIONED}_2 "
    f"FOR EACH ROW EXECUTE FUNCTION remember('{PARTITIONED}')",
)


def state(row):
    return json.dumps(row, sort_keys=True)


class Consumer:
    """A copy of a table, kept as the guide says.

    Attributes:
        copy: the state of each row.
        seen: all states that were ever in the copy.
        deaths: how often it died.
        deletions: how many deleted ids it was told.
    """

    def __init__(self, place, table, limit, *, dies):
        self.table = table
        self.copy: dict[int, str] = {}
        self.seen: set[str] = set()
        self.deaths = self.deletions = 0
        self._random = random.Random(f"{table} {limit} {dies}")
        self._place, self._limit, self._dies = place, limit, dies
        self._checkpoint: str | None = None
        self._client = boto3.client("s3")
        self._client.meta.events.register("before-send.s3", lambda **_: self._step())

    def follow(self, over):
        """Apply what is new until it is over."""
        while not over.wait(0.02):
            try:
                self.call()
            except Died:
                self.deaths += 1

    def catch_up(self):
        """Apply all that is new."""
        self._dies = False
        while self.call():
            pass

    def call(self):
        """Apply what is new; return whether there was anything."""
        new = read_new(
            self.table, self._checkpoint, self._client, self._place.bucket.name, self._limit
        )
        for row in new.upserts.to_dict("records"):
            self._step()
            self.copy[row[f"{self.table}_id"]] = state(row)
            self.seen.add(state(row))
        for row_id in new.deleted:
            self._step()
            self.copy.pop(row_id, None)
        self.deletions += len(new.deleted)
        self._step()
        is_news, self._checkpoint = new.checkpoint != self._checkpoint, new.checkpoint
        return is_news

    def _step(self):
        if self._dies and self._random.random() < 0.02:
            raise Died


@pytest.fixture
def place(database, bucket):
    place = Place(database, bucket, TABLES, {}, with_changes=True)
    create_tables(database.connect())
    place.execute(*upheavals.SCHEMA, *HISTORY)
    for table in TABLES:
        place.execute(
            f"INSERT INTO {table} (bucket, note) SELECT n % 2, 'old' FROM generate_series(1, 99) n"
        )
    place.run()
    return place


def again_and_again(work, over):
    """Work until it is over; return how often, and how often it is to be tried again later."""
    taken = Counter[str]()
    while not over.wait(0.1):
        try:
            taken += work()
        except (TransientIngestionError, SourceUnavailableError, UnfinishedError) as error:
            taken[type(error).__name__] += 1
    return taken


def land(place):
    run_within(place, Limits(50, writer_wait_seconds=0.5))
    return Counter(runs=1)


def look(place, **options):
    """Reconcile both tables, with other requests each."""
    taken = Counter(reconciliations=1)
    for table in TABLES:
        findings = compare(place, table, accept_deletes=2**62, **options)
        taken += Counter(tombstones=findings.buried, brought=findings.brought)
        taken += Counter(proved=findings.proved)
        assert findings.faults == []
        assert findings.differing.tolist() == []
        assert findings.missing.tolist() == [] or findings.brought
    return taken


def storm(place, consumers, seconds, seed):
    """Let everybody loose on a place, then let all that there is land; return what was done."""
    over, still = Event(), Event()
    connect = place.database.connect
    work = [Writer(n, connect(), over, 0.5, seed).run for n in range(WRITERS)]
    work += [Updater(n, connect(), over, 0.5, seed).run for n in range(UPDATERS)]
    work += [upheavals.Upheaval(connect(), over, seed).run]
    jobs = [partial(land, place), partial(land, place)]
    jobs += [partial(look, place), partial(look, place, with_listing=False)]
    with ThreadPoolExecutor(len(work) + len(jobs) + len(consumers)) as pool:
        tasks = [pool.submit(again_and_again, job, still) for job in jobs]
        following = [pool.submit(consumer.follow, still) for consumer in consumers]
        working = [pool.submit(job) for job in work]
        end = time.monotonic() + seconds
        everybody = [*working, *tasks, *following]
        while time.monotonic() < end and not any(task.done() for task in everybody):
            over.wait(0.05)
        over.set()
        taken = sum((task.result() for task in working), Counter())
        still.set()
        taken += sum((task.result() for task in tasks), Counter())
        for task in following:
            task.result()
    place.execute("SELECT pg_stat_force_next_flush()")
    for _ in range(2):
        place.run()
        taken += look(place)
    return taken


def check(place, consumers):
    with closing(place.database.connect()) as connection:
        for table in TABLES:
            had = connection.run("SELECT state FROM had WHERE of_table = :table", table=table)
            states = {state(each) for [each] in had}
            found = connection.run(f"SELECT {table}_id, to_jsonb(t) FROM {table} AS t")
            rows = {row_id: state(row) for row_id, row in found}
            check_equal(table, content(place.bucket), connection)
            findings = compare(place, table)
            assert not len(findings.missing) + len(findings.deleted) + findings.pending
            for consumer in consumers:
                if consumer.table == table:
                    consumer.catch_up()
                    assert consumer.copy == rows
                    assert consumer.seen <= states
                    print(table, len(rows), len(consumer.seen), consumer.deaths, consumer.deletions)
                    assert consumer.deletions > 0
                    assert len(consumer.seen) > len(rows)


@pytest.mark.parametrize(
    ("seconds", "seed"), [(2, 1), *(pytest.param(15, n, marks=pytest.mark.long) for n in (2, 3))]
)
def test_each_copy_is_the_table_in_the_end_and_has_had_states_before(place, seconds, seed):
    consumers = [
        Consumer(place, table, limit, dies=dies)
        for table in TABLES
        for limit, dies in ((None, False), (None, True), (1, False))
    ]
    taken = storm(place, consumers, seconds, seed)
    print(dict(taken))
    check(place, consumers)
    assert taken["tombstones"] > 0
    assert sum(consumer.deaths for consumer in consumers) > 2
