"""Rows of very many columns, of very long values, and of nothing but an id."""

from __future__ import annotations

import json

import pytest

from services.ingestion import get_table_data
from services.ingestion.new_rows import read_new_rows
from shared.jsonlines import to_json_lines
from shared.postgres import reader as row_reader
from shared.tables import Table


def lines(rows):
    return [json.loads(line) for line in to_json_lines(rows).splitlines()]


@pytest.mark.parametrize("columns", [0, 300, 1599])
def test_tables_of_few_and_of_very_many_columns(database, columns):
    writer = database.connect()
    declared = "".join(f", c{n} smallint" for n in range(columns))
    writer.run(f"CREATE TABLE wide (wide_id serial PRIMARY KEY{declared})")
    writer.run("INSERT INTO wide DEFAULT VALUES")
    [row] = lines(get_table_data("wide", 0, database.connect("reader")))
    assert row == {"wide_id": 1} | {f"c{n}": None for n in range(columns)}


def test_long_rows_come_in_batches_of_bounded_size(database):
    writer = database.connect()
    writer.run("CREATE TABLE long (long_id serial PRIMARY KEY, note text NOT NULL)")
    writer.run("INSERT INTO long (note) SELECT repeat('x', 5000000) FROM generate_series(1, 20)")
    reader = database.connect("reader")
    first = read_new_rows(Table("long"), 0, reader, 50_000)
    assert first.more
    assert 1 <= len(first.rows) < 20
    found, last = [], 0
    more = True
    while more:
        batch = read_new_rows(Table("long"), last, reader, 50_000)
        found += [(row["long_id"], len(row["note"])) for row in lines(batch.rows)]
        last, more = found[-1][0], batch.more
    assert found == [(n, 5_000_000) for n in range(1, 21)]


def test_rows_that_grow_longer_are_noticed_before_many_are_read(database, monkeypatch):
    monkeypatch.setattr(row_reader, "_FIRST_VALUES", 20)
    monkeypatch.setattr(row_reader, "BATCH_BYTES", 5000)
    database.connect().run("CREATE TABLE growing (growing_id serial PRIMARY KEY, name text)")
    database.connect().run(
        "INSERT INTO growing (name) SELECT CASE WHEN n > 15 THEN repeat('a', 1500) END "
        "FROM generate_series(1, 500) AS n"
    )
    batch = read_new_rows(Table("growing"), 0, database.connect("reader"), 400)
    assert len(batch.rows) == 10 + 20
    assert batch.more
