"""Rows of very many columns, of very long values, and of nothing but an id."""

from __future__ import annotations

import json

import pytest

from services.ingestion import batches, get_table_data
from shared.jsonlines import to_json_lines


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
    first = get_table_data("long", 0, reader, 50_000)
    assert first.attrs["more"]
    assert 1 <= len(first) < 20
    found, last = [], 0
    more = True
    while more:
        rows = get_table_data("long", last, reader, 50_000)
        found += [(row["long_id"], len(row["note"])) for row in lines(rows)]
        last, more = found[-1][0], rows.attrs["more"]
    assert found == [(n, 5_000_000) for n in range(1, 21)]


def test_rows_that_grow_longer_are_noticed_before_many_are_read(database, monkeypatch):
    monkeypatch.setattr(batches, "_FIRST_VALUES", 20)
    monkeypatch.setattr(batches, "BATCH_BYTES", 5000)
    database.connect().run("CREATE TABLE growing (growing_id serial PRIMARY KEY, name text)")
    database.connect().run(
        "INSERT INTO growing (name) SELECT CASE WHEN n > 15 THEN repeat('a', 1500) END "
        "FROM generate_series(1, 500) AS n"
    )
    rows = get_table_data("growing", 0, database.connect("reader"), 400)
    assert len(rows) == 10 + 20
    assert rows.attrs["more"]
