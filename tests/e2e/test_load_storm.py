"""A load in a storm of writers, with a tick every second and a worker killed at every step."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from threading import Event, Lock
from typing import TYPE_CHECKING

import pytest

from local import totesys
from local.stage import LocalStage
from shared.bucket import read_new
from shared.jsonlines import to_json_lines
from shared.postgres.reader import read_settled_rows
from shared.tables import TOMBSTONE, Table
from tests.helpers.cases import as_long
from tests.helpers.faults.s3 import applied_then_client_killed, client_killed, faulty_s3
from tests.helpers.runs.drills import configured
from tests.helpers.writers.orders import change_orders

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.helpers.faults.s3 import Fault, Request

pytestmark = [pytest.mark.e2e, pytest.mark.long]

TABLE = "sales_order"
WORKERS = 4
BATCHES = 100
TICK_SECONDS = 1.0
LONGEST_SECONDS = 0.5
WAYS = ["insert", "insert", "update", "update", "delete", "delete"]
# The steps of a batch, as S3 sees them: before each request, and after it. It begins with one that
# a plan does not make, and a run only where its watermark is.
REQUESTS = ["HEAD rows", "PUT rows", "GET claims"]


class Killing:
    """Kills the worker that asks, once at each step of a batch; each time at another batch."""

    def __init__(self, above: int) -> None:
        """Leave the batches below an id alone: runs land these."""
        self.left: list[tuple[str, Fault]] = [
            (request, fault)
            for request in REQUESTS
            for fault in (client_killed, applied_then_client_killed)
        ]
        self.steps: list[str] = []
        self._above, self._lock, self._done = above, Lock(), set[int]()

    def choose(self, request: Request) -> Fault | None:
        """Pick the fault for a request."""
        found = re.fullmatch(rf"(\w+) (claims/)?{TABLE}/(\d+)\.jsonl?", request.place)
        if not found:
            return None
        step = f"{found[1]} {'claims' if found[2] else 'rows'}"
        with self._lock:
            row_id = int(found[3])
            if not self.left or row_id < self._above or row_id in self._done:
                return None
            wanted, fault = self.left[0]
            if step != wanted:
                return None
            self._done.add(row_id)
            self.left.pop(0)
            self.steps.append(f"{step}, {fault.__name__}")
            return fault


@contextmanager
def storm(stage: LocalStage, over: Event) -> Iterator[Counter[str]]:
    """Change the table in every way until the block ends; yields what was done, filled then."""
    taken = Counter[str]()
    with ExitStack() as stack:
        sessions = [stack.enter_context(closing(stage.server.connect("totesys"))) for _ in WAYS]
        pool = stack.enter_context(ThreadPoolExecutor(len(WAYS)))
        running = [
            pool.submit(change_orders, number, way, session, over, LONGEST_SECONDS)
            for number, (way, session) in enumerate(zip(WAYS, sessions, strict=True))
        ]
        try:
            yield taken
        finally:
            over.set()
            for each in running:
                taken += each.result()


def tick(stage: LocalStage, over: Event) -> Counter[str]:
    """Run the schedule's state machine every second; return how the executions ended."""
    ended = Counter[str]()
    while not over.wait(TICK_SECONDS):
        execution = stage.run({"tables": [TABLE]})
        ended[execution.error or execution.status] += 1
    return ended


@pytest.fixture
def own_stage() -> Iterator[LocalStage]:
    with LocalStage(events=300) as stage:
        yield stage


@pytest.mark.parametrize("rows", [20_000, as_long(5_000_000)])
def test_a_load_in_a_storm_lands_each_row_once(own_stage: LocalStage, rows: int):
    stage, over = own_stage, Event()
    totesys.bulk_sales_orders(stage.database, rows)
    killing = Killing(rows // 2)
    batch_rows = str(rows // BATCHES)
    with (
        faulty_s3(stage.aws.endpoint) as proxy,
        configured(stage, {"AWS_ENDPOINT_URL_S3": proxy.url, "BATCH_ROWS": batch_rows}),
        ThreadPoolExecutor(1) as pool,
        storm(stage, over) as taken,
    ):
        proxy.choose = killing.choose
        ticks = pool.submit(tick, stage, over)
        load = stage.load(TABLE, WORKERS)
        over.set()
    ended = ticks.result()
    print(f"\n{rows} rows, {load.seconds:.0f} s, {load.status} {load.error or load.output}")
    print(f"killed at {killing.steps}; ticks {dict(ended)}; {dict(taken)}")
    assert killing.left == []
    assert load.status == "SUCCEEDED" or load.error == "LoadError", load.cause
    assert ended.keys() <= {"SUCCEEDED", "Runtime.ExitError"}
    if load.error:
        assert stage.load(TABLE, WORKERS).status == "SUCCEEDED"
    caught_up(stage)
    check(stage)


def caught_up(stage: LocalStage) -> None:
    """Run until nothing is left, then say what was deleted."""
    more = True
    while more:
        execution = stage.run({"tables": [TABLE]})
        assert execution.status == "SUCCEEDED", execution.cause
        more = execution.output.get("more")  # if it has begun a reconciliation, that was its last
    assert not stage.reconcile().failed


def check(stage: LocalStage) -> None:
    """Each row landed once; both streams together are the table; `read_new` agrees."""
    landed = [line for key in stage.landed.keys(TABLE) for line in lines(stage, key)]
    ids = [row_id for row_id, _ in landed]
    assert len(ids) == len(set(ids))
    last = dict(landed)
    for key in sorted(stage.landed.all_keys()):
        if re.fullmatch(rf"changes/{TABLE}/\d+\.jsonl", key):
            last |= dict(lines(stage, key))
    last = {row_id: line for row_id, line in last.items() if line is not None}
    assert last == stored(stage)
    assert read(stage) == last.keys()


def lines(stage: LocalStage, key: str) -> Iterator[tuple[int, bytes | None]]:
    """Yield the id of each line, and a print of it; None for that of a tombstone."""
    for line in stage.landed.read(key).splitlines():
        row = json.loads(line)
        yield row[f"{TABLE}_id"], None if TOMBSTONE in row else printed(line)


def printed(line: bytes) -> bytes:
    return hashlib.blake2b(line, digest_size=8).digest()


def stored(stage: LocalStage) -> dict[int, bytes]:
    """The print of each row in Totesys."""
    found, above = dict[int, bytes](), 0
    with closing(stage.server.connect("totesys")) as session:
        while True:
            batch = read_settled_rows(Table(TABLE), above, 2**62, session, 50_000)
            found |= zip(
                batch.ids.tolist(), map(printed, to_json_lines(batch.rows).splitlines()),
                strict=True,
            )  # fmt: skip
            if not batch.more:
                return found
            above = batch.last_id


def read(stage: LocalStage) -> set[int]:
    """The ids of the copy of a consumer that follows `read_new`."""
    client, name = stage.aws.client("s3"), stage.landed.bucket_name
    copy, checkpoint, ended = set[int](), None, False
    while not ended:
        new = read_new(TABLE, checkpoint, client, name, limit=500_000)
        copy |= set(new.upserts[f"{TABLE}_id"].tolist())
        copy -= set(new.deleted)
        ended, checkpoint = new.checkpoint == checkpoint, new.checkpoint
    return copy
