"""Rows that commit after rows with higher ids: none is missed, doubled or out of order."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import combinations_with_replacement, islice, permutations, product
from typing import TYPE_CHECKING

import pytest

from local.storms.storm import Read, storm
from local.storms.writers import PARTITIONED, PLAIN, create_tables
from services.ingestion.new_rows import read_new_rows
from shared.postgres import reader
from shared.postgres.reader import read_settled_rows
from shared.tables import Table
from tests.helpers.writers.entries import INSERT, READ, Entries, Interleaved, ids

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pg8000.native import Connection

    Reader = Callable[[int, Connection], list[int]]

pytestmark = pytest.mark.thorough


@pytest.fixture
def entries(database):
    return Entries(database)


def naive(row_id: int, connection: Connection) -> list[int]:
    """Return the ids above a watermark, as a reader without the rule of the gaps does."""
    return ids(read_settled_rows(Table("entry"), row_id, 2**31, connection))


def exact(row_id: int, connection: Connection, limit: int | None = None) -> list[int]:
    return ids(read_new_rows(Table("entry"), row_id, connection, limit, wait_seconds=0))


# --- the storm ---


@dataclass
class TableReader:
    """Reads new rows from where the last call ended."""

    table: str
    connection: Connection
    limit: int | None
    wait_seconds: float
    row_id: int = 0

    def __call__(self) -> Read:
        batch = read_new_rows(
            Table(self.table),
            self.row_id,
            self.connection,
            self.limit,
            wait_seconds=self.wait_seconds,
        )
        found = batch.ids.tolist()
        self.row_id = max([self.row_id, *found])
        return Read(found, batch.waited, batch.held_back)


@pytest.mark.parametrize(
    ("seconds", "tick_seconds", "longest_seconds", "wait_seconds"),
    [
        pytest.param(5, 0.1, 1.5, 0.4, id="short"),
        pytest.param(30, 1.0, 4.0, 30.0, id="long", marks=pytest.mark.long),
    ],
)
def test_a_storm_of_writers(
    database, record_property, seconds, tick_seconds, longest_seconds, wait_seconds
):
    create_tables(database.connect())
    figures, taken = storm(
        database.connect,
        {
            table: TableReader(table, database.connect("reader"), limit, wait_seconds)
            for table, limit in ((PLAIN, None), (PARTITIONED, 40))
        },
        seconds=seconds,
        tick_seconds=tick_seconds,
        longest_seconds=longest_seconds,
    )
    for table, of_table in figures.items():
        print(of_table)
        record_property(table, of_table)
        assert of_table.is_exact
        # Or it was no storm, and a reader without the rule of the gaps would have done.
        assert of_table.late_rows
        assert of_table.dead_ids
    assert {"copy", "COMMIT PREPARED", "ROLLBACK PREPARED", "savepoint rolled back"} <= set(taken)


# --- every order of a few writers and a reader ---

ROWS = {"a": 1, "b": 2, "c": 1}
ENDS = ("COMMIT", "ROLLBACK")


def orders(names: str) -> Iterator[tuple[list[tuple[str, ...]], dict[str, str]]]:
    """Yield every order of a reader's statements and the steps of writers, with how each ends.

    A writer inserts its rows, then ends. An order is what happens before the read, before the list
    of writers, before the second read, and after that. At least three steps come before the read:
    with fewer, there can be no gap.
    """
    turns = sorted(set(permutations(names * 2)))
    cuts = [
        cut for cut in combinations_with_replacement(range(2 * len(names) + 1), 3) if cut[0] >= 3
    ]
    for turn, (read, listed, again), ends in product(turns, cuts, product(ENDS, repeat=len(names))):
        order = [turn[:read], turn[read:listed], turn[listed:again], turn[again:]]
        yield order, dict(zip(names, ends, strict=True))


class Writer:
    """Takes a step at each call: begins and inserts, then ends."""

    def __init__(self, connection: Connection, rows: int, end: str) -> None:
        self.committed: list[int] = []
        self._steps = iter([partial(self._insert, rows), partial(connection.run, end)])
        self._connection, self._commits = connection, end == "COMMIT"

    def __call__(self) -> None:
        next(self._steps)()

    def _insert(self, rows: int) -> None:
        self._connection.run("BEGIN")
        found = self._connection.run(f"{INSERT}{', (NULL)' * (rows - 1)} RETURNING entry_id")
        self.committed = [row_id for [row_id] in found] if self._commits else []


def play(
    entries: Entries, read: Reader, order: list[tuple[str, ...]], writers: dict[str, Writer]
) -> list[int]:
    """Return the ids that reads deliver, the first of them in this order with the writers."""
    [row_id] = entries.add()
    steps = {READ + place: [writers[name] for name in names] for place, names in enumerate(order)}
    session = Interleaved(entries.reader, steps)
    delivered = read(row_id, session)
    session.finish()
    while found := read(delivered[-1] if delivered else row_id, entries.reader):
        delivered += found
    return delivered


def play_all(entries: Entries, read: Reader, names: str, stride: int = 1) -> tuple[int, int]:
    """Play orders of the named writers; return in how many rows were lost, and of how many."""
    connections = {name: entries.connect() for name in names}
    lost = played = 0
    for order, ends in islice(orders(names), 0, None, stride):
        writers = {name: Writer(connections[name], ROWS[name], ends[name]) for name in names}
        delivered = play(entries, read, order, writers)
        committed = {row_id for writer in writers.values() for row_id in writer.committed}
        assert delivered == sorted(committed & set(delivered)), (order, ends)
        played += 1
        lost += set(delivered) != committed
    return lost, played


@pytest.mark.parametrize(
    ("limit", "statement_values"),
    [(2, 9999), (None, 1), pytest.param(None, 9999, marks=pytest.mark.long)],
)
def test_no_order_of_two_writers_and_a_reader_loses_a_row(
    entries, monkeypatch, limit, statement_values
):
    monkeypatch.setattr(reader, "_FIRST_VALUES", statement_values)
    monkeypatch.setattr(reader, "_STATEMENT_VALUES", statement_values)  # 1: a row a statement
    assert play_all(entries, partial(exact, limit=limit), "ab") == (0, 96)


@pytest.mark.long
@pytest.mark.parametrize(("limit", "statement_values"), [(None, 9999), (2, 9999), (None, 1)])
def test_no_order_of_three_writers_and_a_reader_loses_a_row(
    entries, monkeypatch, limit, statement_values
):
    monkeypatch.setattr(reader, "_FIRST_VALUES", statement_values)
    monkeypatch.setattr(reader, "_STATEMENT_VALUES", statement_values)
    assert play_all(entries, partial(exact, limit=limit), "abc", stride=23) == (0, 627)


def test_a_reader_without_the_rule_of_the_gaps_loses_rows_in_the_same_orders(entries):
    lost, played = play_all(entries, naive, "ab")
    assert 0 < lost < played == 96
