"""The line of a row says what PostgreSQL says, whatever the types, the values and the session."""

from __future__ import annotations

import uuid
from contextlib import closing

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.ingestion import get_table_data, ingest
from services.ingestion.new_rows import read_new_rows
from shared import tables as our
from shared.jsonlines import to_json_lines
from shared.postgres import reader as row_reader
from tests.helpers import landed
from tests.helpers.pg_tables import Column, Table, assert_lines_hold, tables
from tests.helpers.pg_types import SCHEMA, TYPES

pytestmark = pytest.mark.thorough

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
SESSION = (
    "SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601';"
    "SET bytea_output = 'escape'; SET extra_float_digits = -15"
)


@pytest.fixture(scope="module")
def dbname(server):
    name = "values"
    server.create_database(name)
    with closing(server.connect(name)) as connection:
        connection.run(SCHEMA)
    yield name
    server.drop_database(name)


@pytest.fixture(scope="module")
def writer(server, dbname):
    with closing(server.connect(dbname)) as connection:
        yield connection


@pytest.fixture(scope="module")
def reader(server, dbname):
    with closing(server.connect(dbname, "reader")) as connection:
        yield connection


def check(table: Table, writer, reader, session: str = "") -> None:
    """Read a table at once and row by row, and hold its lines against the server."""
    table.create(writer)
    try:
        table.insert(writer)
        if session:
            reader.run(session)
        lines = to_json_lines(get_table_data(table.name, 0, reader))
        assert_lines_hold(lines, table, table.says(writer))
        ids = range(len(table.rows))
        alone = [to_json_lines(get_table_data(table.name, n, reader, 1)) for n in ids]
        assert b"".join(alone) == lines
    finally:
        table.drop(writer)


@pytest.mark.parametrize("type_", TYPES, ids=repr)
def test_every_type(type_, writer, reader):
    @settings(max_examples=2, deadline=None, database=None, suppress_health_check=SLOW)
    @given(st.lists(st.tuples(st.none() | type_.values), min_size=1, max_size=20), st.booleans())
    def test(rows, nullable):
        kept = rows if nullable else [row for row in rows if row[0] is not None]
        check(Table("one", [Column("value", type_, nullable)], kept), writer, reader)

    test()


@settings(max_examples=25, deadline=None, database=None, suppress_health_check=SLOW)
@given(tables())
@example(Table("cut", [], [()]))
def test_any_table(writer, reader, table):
    check(table, writer, reader)


@settings(max_examples=15, deadline=None, database=None, suppress_health_check=SLOW)
@given(tables())
def test_the_session_changes_nothing(writer, reader, table):
    check(table, writer, reader, SESSION)


@settings(max_examples=15, deadline=None, database=None, suppress_health_check=SLOW)
@given(tables(), st.sampled_from(["LATIN1", "WIN1252", "SQL_ASCII"]))
@example(Table("漢字", [Column("prüfung", TYPES[0], nullable=True)], [(None,)]), "LATIN1")
def test_nor_does_its_encoding(server, dbname, writer, table, encoding):
    with closing(server.connect(dbname, "reader")) as reader:
        check(table, writer, reader, f"SET client_encoding = '{encoding}'")


@settings(max_examples=3, deadline=None, database=None, suppress_health_check=SLOW)
@given(st.lists(st.tuples(*(st.none() | type_.values for type_ in TYPES)), min_size=1, max_size=3))
def test_a_run_lands_it_all(writer, reader, bucket, rows):
    columns = [Column(f"{number} {type_.name}", type_, True) for number, type_ in enumerate(TYPES)]
    table = Table(f"order {uuid.uuid4()}", columns, rows)
    table.create(writer)
    try:
        table.insert(writer)
        ingest([table.name], bucket.client, reader, bucket.name)
        [key] = landed.data_keys(bucket, table.name)
        lines = landed.body(bucket, key).encode()
        assert_lines_hold(lines, table, table.says(writer))
    finally:
        table.drop(writer)


def read_while_committing(table, reader, late_writer, limit):
    """Read a table in batches; its late writer commits at the first wait for it."""
    frames, more, last = [], True, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.ingestion.new_rows.time.sleep", lambda _: late_writer.run("COMMIT"))
        while more:
            batch = read_new_rows(our.Table(table.name), last, reader, limit)
            frames.append(batch.rows)
            more, last = batch.more, max([last, *batch.ids.tolist()])
    return b"".join(map(to_json_lines, frames))


@pytest.fixture(scope="module")
def late_writer(server, dbname):
    with closing(server.connect(dbname)) as connection:
        yield connection


def check_late(table, late, writer, late_writer, reader, limit=None):
    """Let the rows with these ids commit while the others are read."""
    table.create(writer)
    try:
        late_writer.run("BEGIN")
        table.insert(late_writer, late)
        table.insert(writer, [n for n in range(1, len(table.rows) + 1) if n not in late])
        lines = read_while_committing(table, reader, late_writer, limit)
        assert_lines_hold(lines, table, table.says(writer))
    finally:
        late_writer.run("ROLLBACK")
        table.drop(writer)


@settings(max_examples=25, deadline=None, database=None, suppress_health_check=SLOW)
@given(tables(), st.data())
def test_rows_that_commit_late_are_as_exact(writer, late_writer, reader, table, data):
    ids = range(1, len(table.rows) + 1)
    late = data.draw(st.sets(st.sampled_from(ids[:-1]))) if len(ids) > 1 else set()
    limit = data.draw(st.none() | st.integers(1, 6))
    check_late(table, late, writer, late_writer, reader, limit)


@settings(max_examples=10, deadline=None, database=None, suppress_health_check=SLOW)
@given(st.integers(2, 9), st.data())
def test_nor_are_late_rows_lost_where_long_ones_end_a_batch(
    writer, late_writer, reader, rows, data
):
    late = data.draw(st.sets(st.integers(1, rows - 1)))
    text = next(type_ for type_ in TYPES if type_.name == "text")
    lengths = data.draw(st.lists(st.integers(0, 9000), min_size=rows, max_size=rows))
    # Not to be compressed: PostgreSQL then keeps the long ones aside.
    values = [("".join(chr(33 + n * n * 7 % 9001) for n in range(size)),) for size in lengths]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(row_reader, "BATCH_BYTES", 10_000)
        check_late(Table("long", [Column("note", text, False)], values), late,
                   writer, late_writer, reader, 50)  # fmt: skip
