"""Which batch a run is given: the one that was read ahead, or one that is read now."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd
import pytest

from services.ingestion import read_ahead
from services.ingestion.read_ahead import Reader
from shared.errors import SourceUnavailableError
from shared.postgres.catalogue import Description
from shared.postgres.reader import Batch
from shared.tables import Table

if TYPE_CHECKING:
    from shared.personal import PersonalData


class Source:
    """A source that has seen who asked for what; its rows are as they are told to be."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.waits: list[float] = []
        self.waited = 0.0
        self.held_back = 0
        self.failures: list[Exception] = []

    def read_new_rows(
        self,
        table: Table,
        row_id: int,
        _connection: Any,
        limit: int,
        *,
        wait_seconds: float,
        personal: PersonalData,
        after: Batch | None,
    ) -> Batch:
        assert limit == 2
        assert after is None or after.last_id == row_id
        self.asked.append((table.name, row_id))
        self.waits.append(wait_seconds)
        if self.failures:
            raise self.failures.pop()
        return replace(batch(table.name, row_id + 1), waited=self.waited, held_back=self.held_back)


def batch(table: str, *ids: int, more: bool = False) -> Batch:
    description = Description(Table(table), ())
    return Batch(description, pd.DataFrame({f"{table}_id": ids}), more=more)


@pytest.fixture
def source(monkeypatch) -> Source:
    """What the reader asks."""
    source = Source()
    monkeypatch.setattr(read_ahead, "new_rows", source)
    return source


def a_reader(seconds_left: float = 100.0) -> Reader:
    connection: Any = None
    return Reader(connection, 2, 30.0, lambda: seconds_left)


def read(reader: Reader, table: str, row_id: int) -> list[int]:
    return reader.read(Table(table), row_id).ids.tolist()


def ahead(reader: Reader, table: str, row_id: int, *, more: bool = True) -> None:
    with reader.reading_ahead(batch(table, row_id, more=more)):
        pass


def test_a_batch_that_was_read_ahead_is_read_once(source):
    reader = a_reader()
    ahead(reader, "a", 5)
    assert read(reader, "a", 5) == [6]
    assert source.asked == [("a", 5)]
    assert read(reader, "a", 5) == [6]
    assert source.asked == [("a", 5), ("a", 5)]


def test_a_table_that_stands_elsewhere_is_read_again(source):
    reader = a_reader()
    ahead(reader, "a", 5)
    assert read(reader, "a", 4) == [5]
    assert read(reader, "a", 5) == [6]
    assert source.asked == [("a", 5), ("a", 4), ("a", 5)]


def test_another_table_neither_takes_nor_replaces_it(source):
    reader = a_reader()
    ahead(reader, "a", 5)
    ahead(reader, "b", 7)
    assert read(reader, "b", 7) == [8]
    assert read(reader, "a", 5) == [6]
    assert source.asked == [("a", 5), ("b", 7)]


def test_a_failure_is_that_of_the_next_read(source):
    reader = a_reader()
    source.failures = [SourceUnavailableError("gone")]
    ahead(reader, "a", 5)
    with pytest.raises(SourceUnavailableError, match="gone"):
        read(reader, "a", 5)
    assert read(reader, "a", 5) == [6]


def test_what_is_forgotten_leaves_room_for_another_table(source):
    reader = a_reader()
    ahead(reader, "a", 5)
    reader.forget(Table("b"))
    reader.forget(Table("a"))
    ahead(reader, "b", 7)
    read(reader, "a", 5)
    read(reader, "b", 7)
    assert source.asked == [("a", 5), ("b", 7), ("a", 5)]


@pytest.mark.parametrize(
    ("seconds_left", "more"), [(0.0, True), (100.0, False)], ids=["no time", "no more rows"]
)
def test_nothing_is_read_ahead_in_vain(source, seconds_left, more):
    ahead(a_reader(seconds_left), "a", 5, more=more)
    assert source.asked == []


def test_only_a_batch_that_is_asked_for_waits_for_writers(source):
    reader = a_reader()
    source.waited, source.held_back = 20.0, 1
    ahead(reader, "a", 5)
    read(reader, "a", 5)
    read(reader, "a", 5)
    read(reader, "a", 5)
    assert source.waits == [0.0, 30.0, 10.0, 0.0]
    assert reader.read(Table("a"), 5).held_back == 1


def test_nobody_waits_for_writers_longer_than_there_is_time(source):
    read(a_reader(seconds_left=5.0), "a", 5)
    read(a_reader(seconds_left=-1.0), "a", 5)
    assert source.waits == [5.0, 0.0]


def test_the_interpreter_switches_as_before_afterwards(source):
    before = sys.getswitchinterval()
    with a_reader().reading_ahead(batch("a", 5, more=True)):
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
