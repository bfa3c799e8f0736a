"""The batch that is read while the one before it is landed."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from pg8000.exceptions import InterfaceError

from shared.errors import IngestionError
from tests.helpers.faults.kills import killed_at, steps_of
from tests.helpers.oracle import landed
from tests.helpers.runs.place import Place

pytestmark = pytest.mark.thorough

TABLES = ("first", "second")


@pytest.fixture
def place(database, bucket):
    """Two tables of five rows each, which land in batches of two."""
    connection = database.connect()
    for table in TABLES:
        connection.run(f"CREATE TABLE {table} ({table}_id serial PRIMARY KEY, name text)")
        connection.run(f"INSERT INTO {table} (name) SELECT 'a' FROM generate_series(1, 5)")
    return Place(database, bucket, TABLES, {}, batch_rows=2, with_changes=True)


def is_statement(step: str) -> bool:
    return step.split()[1].isupper()


def is_read(step: str) -> bool:
    return "SELECT count(*), concat_ws" in step


def puts_an_object(step: str) -> bool:
    return step.startswith("before PutObject") and ".jsonl" in step and "/changes/" not in step


class ReadAhead:
    """Lets the first object be written as soon as two batches have been read."""

    def __init__(self) -> None:
        self.reads = 0
        self.was_read = threading.Event()

    def __call__(self, step: str) -> None:
        if is_read(step) and step.startswith("after"):
            self.reads += 1
            if self.reads == 2:
                self.was_read.set()
        if puts_an_object(step):
            assert self.was_read.wait(30)


def test_a_batch_is_read_while_the_one_before_it_lands(place):
    place.run(ReadAhead())
    place.check()


def test_the_session_is_never_used_by_two(place):
    at_work, saved, intruded = threading.Lock(), threading.Event(), threading.Event()
    used: list[bool] = []
    reads: list[bool] = []

    def step(words):
        if words.startswith("before PutObject") and f"{place.bucket.name}/first/latest" in words:
            saved.set()  # the last request of a batch
        if not is_statement(words):
            return
        if words.startswith("after"):
            at_work.release()
            return
        used.append(at_work.acquire(blocking=False))
        if not used[-1]:
            intruded.set()
        reads.append(is_read(words))
        if sum(reads) == 2 and reads[-1]:  # read ahead: let everybody get in the way who would
            assert saved.wait(30)
            assert not intruded.wait(0.5)

    place.run(step)
    assert all(used)
    assert sum(reads) > 5
    place.check()


def test_what_another_run_lands_meanwhile_lands_once(place):
    others: list[dict[str, Any]] = []

    def step(words):
        if puts_an_object(words) and not others:
            others.append(place.run())

    place.run(step)
    assert others[0]["rows"] > 0
    place.check()


def test_a_row_that_commits_after_the_end_was_read_ahead_lands_in_the_next_run(place):
    reads: list[str] = []
    objects: list[str] = []
    end_was_read = threading.Event()

    def step(words):
        if is_read(words) and words.startswith("after"):
            reads.append(words)
            if len(reads) == 4:  # two batches of the first table, one of the second, row 5
                end_was_read.set()
        if puts_an_object(words) and "/first/" in words:
            objects.append(words)
            if len(objects) == 2:
                assert end_was_read.wait(30)
                place.execute("INSERT INTO first (name) VALUES ('b')")

    place.run(step)
    assert landed.ids(place.bucket, "first") == [1, 2, 3, 4, 5]
    place.run()
    assert landed.ids(place.bucket, "first") == [1, 2, 3, 4, 5, 6]
    place.check()


@pytest.mark.parametrize("stride", [21, pytest.param(1, marks=pytest.mark.long)])
def test_a_run_that_is_killed_while_it_reads_ahead_loses_and_doubles_nothing(place, stride):
    points = range(3, len(steps_of(place)), stride)
    assert len(points) >= 5
    for point in points:
        attempt = place.again()
        assert killed_at(attempt, point)
        attempt.run()
        attempt.check()


def test_a_reading_ahead_that_fails_costs_no_batch_that_was_read_before(place, log_lines):
    reads: list[str] = []

    def step(words):
        if is_read(words) and words.startswith("before"):
            reads.append(words)
            if len(reads) == 2:
                raise InterfaceError("network error")

    with pytest.raises(IngestionError, match="first") as failure:
        place.run(step)
    assert list(failure.value.failures) == ["first"]
    assert landed.ids(place.bucket, "first") == [1, 2]
    assert landed.ids(place.bucket, "second") == [1, 2, 3, 4, 5]
    [line] = [line for line in log_lines() if "failed" in line["message"]]
    assert (line["level"], line["table"]) == ("WARNING", "first")
    place.run()
    place.check()


def test_a_table_that_fails_leaves_the_reading_ahead_to_others(place):
    of_first, of_second = ReadAhead(), ReadAhead()
    failed: list[str] = []

    def step(words):
        if failed:
            of_second(words)
            return
        of_first(words)
        if puts_an_object(words):
            failed.append(words)
            raise ValueError

    with pytest.raises(IngestionError, match="1 table"):
        place.run(step)
    assert landed.ids(place.bucket, "second") == [1, 2, 3, 4, 5]
    place.run()
    place.check()
