"""Rows of very many columns, of very long values, and of nothing but an id."""

from __future__ import annotations

import json

import pytest

from services.ingestion import get_table_data
from services.ingestion.new_rows import read_new_rows
from shared.jsonlines import to_json_lines
from shared.postgres import statement
from shared.postgres.catalogue import read_description
from shared.postgres.categories import plain
from shared.postgres.reader import read_batch
from shared.tables import Table
from tests.helpers.cases import one_in
from tests.helpers.servers import since


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
    writer.run("INSERT INTO long (note) SELECT repeat('x', 5000000) FROM generate_series(1, 8)")
    reader = database.connect("reader")
    first = read_new_rows(Table("long"), 0, reader, 50_000)
    assert first.more
    assert 1 <= len(first.rows) < 8
    found, last = [], 0
    more = True
    while more:
        batch = read_new_rows(Table("long"), last, reader, 50_000)
        found += [(row["long_id"], len(row["note"])) for row in lines(batch.rows)]
        last, more = found[-1][0], batch.more
    assert found == [(n, 5_000_000) for n in range(1, 9)]


def small(monkeypatch, statement, batch):
    monkeypatch.setattr("shared.postgres.statement.STATEMENT_BYTES", statement)
    monkeypatch.setattr("shared.postgres.reader.STATEMENT_BYTES", statement)
    monkeypatch.setattr("shared.postgres.reader.BATCH_BYTES", batch)


def test_a_batch_ends_with_the_row_that_reaches_its_limit(database, monkeypatch):
    small(monkeypatch, 5000, 5000)
    writer = database.connect()
    writer.run("CREATE TABLE growing (growing_id serial PRIMARY KEY, name text)")
    writer.run(
        "INSERT INTO growing (name) SELECT CASE WHEN n > 15 THEN repeat('a', 1500) END "
        "FROM generate_series(1, 500) AS n"
    )
    batch = read_new_rows(Table("growing"), 0, database.connect("reader"), 400)
    assert len(batch.rows) == 15 + 4
    assert batch.more


# Values that take little room: compressed in line, or made by what they say. A NULL between two.
LONG = {
    "text": ("text", "repeat('é', 700)"),
    "varchar": ("varchar", "repeat('x', 1000)"),
    "char": ("char(1000)", "'x'"),
    "bytea": ("bytea", "decode(repeat('00', 750), 'hex')"),
    "json": ("json", "json_build_object('n', repeat('x', 1000))"),
    "jsonb": ("jsonb", "jsonb_build_object('n', repeat('x', 1000))"),
    "numeric": ("numeric", "power(10::numeric, 1000)"),
    "declared numeric": ("numeric(1000,0)", "power(10::numeric, 999)"),
    "array": ("int[]", "array_fill(1, ARRAY[500])"),
    "texts": ("text[]", "ARRAY[repeat('x', 1000)]"),
    "range": ("numrange", "numrange(1, power(10::numeric, 1000))"),
    "composite": ("pair", "ROW(1, repeat('x', 1000))::pair"),
    "bits": ("bit varying", "repeat('1', 1000)::bit varying"),
    "domain": ("document", "jsonb_build_object('n', repeat('x', 1000))"),
    "xml": ("tsvector", "to_tsvector('simple', repeat('x', 1000))"),
}
TYPES = "CREATE TYPE pair AS (n int, note text); CREATE DOMAIN document AS jsonb"


@pytest.mark.parametrize("name", one_in(3, LONG))
def test_no_statement_reads_more_than_it_may(database, monkeypatch, name):
    type_, value = LONG[name]
    small(monkeypatch, 5_000, 20_000)
    writer, reader = database.connect(), database.connect("reader")
    writer.run(f"{TYPES}; CREATE TABLE thing (thing_id serial PRIMARY KEY, a {type_}, b {type_})")
    writer.run(
        f"INSERT INTO thing (a, b) SELECT {value}, CASE WHEN n % 3 > 0 THEN {value} END "
        "FROM generate_series(1, 60) AS n"
    )
    sizes = note_sizes(reader)
    found, batch = list[int](), None
    while batch is None or batch.more:
        batch = read_new_rows(Table("thing"), found[-1] if found else 0, reader, 50_000)
        found += batch.ids.tolist()
        assert batch.size < 20_000 + 3_000
    assert found == [*range(1, 61)]
    assert len(sizes) > 10
    assert max(sizes) < 5_000 + 3_000


def note_sizes(session):
    """Note how many bytes each statement that reads rows returns."""
    run, sizes = session.run, []

    def note(sql, **options):
        rows = run(sql, **options)
        if "AS batch" in sql:
            sizes.append(sum(len((value or "").encode()) for value in rows[0][4:]))
        return rows

    session.run = note
    return sizes


@since(18)
def test_a_virtual_column_is_measured_too(database, monkeypatch):
    small(monkeypatch, 5_000, 20_000)
    writer, reader = database.connect(), database.connect("reader")
    writer.run(
        "CREATE TABLE thing (thing_id serial PRIMARY KEY, n int, "
        "long text GENERATED ALWAYS AS (repeat('x', n)) VIRTUAL)"
    )
    writer.run("INSERT INTO thing (n) SELECT 1000 FROM generate_series(1, 40)")
    sizes = note_sizes(reader)
    batch = read_new_rows(Table("thing"), 0, reader, 50_000)
    assert 15 <= len(batch.rows) <= 25
    assert max(sizes) < 7_000


EXTREMES = [-(2**63) + 1, -1, 0, 2**63 - 2, 2**63 - 1]


@pytest.mark.parametrize("type_", ["int", "text", "jsonb"])
@pytest.mark.parametrize("statement", [1, 8_000_000])
def test_the_lowest_and_the_highest_id_are_read(database, monkeypatch, type_, statement):
    small(monkeypatch, statement, 32_000_000)
    writer, reader = database.connect(), database.connect("reader")
    writer.run(f"CREATE TABLE thing (thing_id bigint PRIMARY KEY, a {type_})")
    for row_id in EXTREMES:
        writer.run(f"INSERT INTO thing VALUES ({row_id}, '1')")
    description = read_description(Table("thing"), reader)
    found = read_batch(description, reader, "{table} AS t WHERE t.{id} > {row_id}", -(2**63) + 1)
    assert found.ids.tolist() == EXTREMES[1:]


@pytest.mark.parametrize("type_", ["int", "text", "jsonb"])
@pytest.mark.parametrize("limit", [1, 3, None])
@pytest.mark.parametrize("statement", [1, 8_000_000])
def test_rows_of_one_id_are_never_parted(database, monkeypatch, type_, limit, statement):
    small(monkeypatch, statement, 32_000_000)
    writer, reader = database.connect(), database.connect("reader")
    writer.run(f"CREATE TABLE thing (thing_id int NOT NULL, a {type_})")
    ids = [1, 2, 2, 2, 3, 3, 5, 5, 6]
    writer.run(f"INSERT INTO thing SELECT unnest(ARRAY{ids}), '1'")
    found, batch = list[int](), None
    while batch is None or batch.more:
        batch = read_new_rows(Table("thing"), found[-1] if found else 0, reader, limit)
        found += batch.ids.tolist()
    assert found == ids


REPEATED = """
CREATE TYPE mood AS ENUM ('glad', 'sad');
CREATE TABLE repeated (
    repeated_id serial PRIMARY KEY, price numeric(10,2) NOT NULL, discount numeric(5,3),
    anything numeric NOT NULL, day date NOT NULL, mood mood NOT NULL, name text NOT NULL,
    size char(9) NOT NULL, label varchar(20) NOT NULL, flag boolean
);
INSERT INTO repeated (price, discount, anything, day, mood, name, size, label, flag)
SELECT
    n % 7 * 1.1, nullif(n % 3, 0) / 8.0, (ARRAY[1, 1.0, 1.00, 'NaN'])[n % 4 + 1],
    date '2024-02-28' + n % 5, (ARRAY['glad', 'sad'])[n % 2 + 1]::mood,
    (ARRAY['', 'é', E'\\x1e', 'Zoë Müller-Ödön', repeat('€', 5), repeat('€', 6)])[n % 6 + 1],
    (ARRAY['S', ' M ', 'é'])[n % 3 + 1], 'label ' || n % (1 + n / 5000 * 4999),
    nullif(n % 2, 0)::bool
FROM generate_series(1, 12000) AS n
"""


def test_repeated_values_land_as_others_do(database, monkeypatch):
    """As categories in some statements, as objects in others, and everywhere as objects."""
    writer, reader = database.connect(), database.connect("reader")
    for sql in REPEATED.split(";"):
        writer.run(sql)
    table = Table("repeated")
    found = read_new_rows(table, 0, reader).rows
    kinds = {name for name, kind in found.dtypes.items() if kind == "category"}
    assert kinds == {"price", "discount", "day", "mood"}
    written = to_json_lines(found)
    assert "category" not in get_table_data("repeated", 0, reader).dtypes.tolist()
    assert to_json_lines(get_table_data("repeated", 0, reader)) == written
    monkeypatch.setattr("shared.postgres.categories._FEWEST", 10**9)
    found = read_new_rows(table, 0, reader).rows
    assert "category" not in found.dtypes.tolist()
    assert to_json_lines(found) == written


@since(17)
def test_a_numeric_that_has_not_the_scale_of_its_column(database):
    """In one statement with others, and in one of its own."""
    writer, reader = database.connect(), database.connect("reader")
    writer.run("CREATE TABLE thing (thing_id serial PRIMARY KEY, price numeric(10,2))")
    odd = "json_value('{}', '$.a' RETURNING numeric(10,2) DEFAULT 1.5 ON EMPTY)"
    for price, count in (odd, 30_000), ("1.5", 30_300), (odd, 300):
        writer.run(f"INSERT INTO thing (price) SELECT {price} FROM generate_series(1, {count})")
    [[spelled]] = writer.run("SELECT string_agg(price::text, ',' ORDER BY thing_id) FROM thing")
    assert spelled.startswith("1.5,1.5,")
    for limit in (None, 1_000, 30_000):
        found, above = list[str](), 0
        while len(found) < 60_600:
            rows = get_table_data("thing", above, reader, limit)
            found += map(str, rows["price"])
            above = int(rows["thing_id"].iloc[-1])
        assert ",".join(found) == spelled


def test_the_batch_before_says_how_many_rows_a_statement_reads(database, monkeypatch):
    writer, reader = database.connect(), database.connect("reader")
    writer.run("CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)")
    writer.run("INSERT INTO thing (name) SELECT 'x' FROM generate_series(1, 90000)")
    table = Table("thing")
    before = read_new_rows(table, 0, reader, 45_000)
    asked: list[int] = []

    def ask(description, connection, rows_sql, limit, **options):
        asked.append(limit)
        return statement.read_rows(description, connection, rows_sql, limit, **options)

    monkeypatch.setattr("shared.postgres.reader.read_rows", ask)
    after = read_new_rows(table, before.last_id, reader, 45_000, after=before)
    assert asked == [45_000]
    monkeypatch.setattr("shared.postgres.reader.STATEMENT_BYTES", before.size // 9)
    again = read_new_rows(table, before.last_id, reader, 45_000, after=before)
    assert 2_400 < asked[1] <= 2_500
    assert plain(again.rows).equals(plain(after.rows))
