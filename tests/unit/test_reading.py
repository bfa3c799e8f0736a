"""Which batch a run is given: the one that was read ahead, or one that is read now."""

from __future__ import annotations

import sys
from itertools import count
from typing import Any

import pandas as pd
import pytest

from services.ingestion import reading
from shared.errors import SourceUnavailableError


class Source:
    """A source that has seen who asked for what; its rows are as they are told to be."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []
        self.waits: list[float] = []
        self.waited = 0.0
        self.held_back = 0
        self.failures: list[Exception] = []

    def get_table_data(
        self, table: str, row_id: int, _connection: Any, limit: int, *, wait_seconds: float
    ) -> pd.DataFrame:
        assert limit == 2
        self.asked.append((table, row_id))
        self.waits.append(wait_seconds)
        if self.failures:
            raise self.failures.pop()
        rows = pd.DataFrame({"id": [row_id + 1]})
        rows.attrs = {"waited_seconds": self.waited, "held_back_rows": self.held_back}
        return rows


@pytest.fixture
def source(monkeypatch) -> Source:
    """What the reader asks."""
    source = Source()
    monkeypatch.setattr(reading, "source", source)
    return source


def a_reader(seconds_left: float = 100.0) -> reading.Reader:
    connection: Any = None
    steps = count(1)
    return reading.Reader(connection, 2, 30.0, lambda: seconds_left, lambda: next(steps))


def read_ahead(reader: reading.Reader, table: str, row_id: int) -> None:
    with reader.reading_ahead(table, row_id):
        pass


def test_a_batch_that_was_read_ahead_is_read_once(source):
    reader = a_reader()
    read_ahead(reader, "a", 5)
    batch = reader.read("a", 5)
    assert (batch.rows["id"].tolist(), batch.step) == ([6], 1)
    assert source.asked == [("a", 5)]
    assert reader.read("a", 5).step == 2
    assert source.asked == [("a", 5), ("a", 5)]


def test_a_table_that_stands_elsewhere_is_read_again(source):
    reader = a_reader()
    read_ahead(reader, "a", 5)
    assert reader.read("a", 4).rows["id"].tolist() == [5]
    assert reader.read("a", 5).step == 3
    assert source.asked == [("a", 5), ("a", 4), ("a", 5)]


def test_another_table_neither_takes_nor_replaces_it(source):
    reader = a_reader()
    read_ahead(reader, "a", 5)
    read_ahead(reader, "b", 7)
    assert reader.read("b", 7).step == 2
    assert reader.read("a", 5).step == 1
    assert source.asked == [("a", 5), ("b", 7)]


def test_a_failure_is_that_of_the_next_read(source):
    reader = a_reader()
    source.failures = [SourceUnavailableError("gone")]
    read_ahead(reader, "a", 5)
    with pytest.raises(SourceUnavailableError, match="gone"):
        reader.read("a", 5)
    assert reader.read("a", 5).rows["id"].tolist() == [6]


def test_what_is_forgotten_leaves_room_for_another_table(source):
    reader = a_reader()
    read_ahead(reader, "a", 5)
    reader.forget("b")
    reader.forget("a")
    read_ahead(reader, "b", 7)
    assert reader.read("a", 5).step == 3
    assert reader.read("b", 7).step == 2


def test_without_time_nothing_is_read_ahead(source):
    read_ahead(a_reader(seconds_left=0.0), "a", 5)
    assert source.asked == []


def test_only_a_batch_that_is_asked_for_waits_for_writers(source):
    reader = a_reader()
    source.waited, source.held_back = 20.0, 1
    read_ahead(reader, "a", 5)
    reader.read("a", 5)
    reader.read("a", 5)
    reader.read("a", 5)
    assert source.waits == [0.0, 30.0, 10.0, 0.0]
    assert reader.read("a", 5).rows.attrs["held_back_rows"] == 1


def test_nobody_waits_for_writers_longer_than_there_is_time(source):
    a_reader(seconds_left=5.0).read("a", 5)
    a_reader(seconds_left=-1.0).read("a", 5)
    assert source.waits == [5.0, 0.0]


def test_the_interpreter_switches_as_before_afterwards(source):
    before = sys.getswitchinterval()
    reader = a_reader()
    with reader.reading_ahead("a", 5):
        assert sys.getswitchinterval() < before
    assert sys.getswitchinterval() == before
