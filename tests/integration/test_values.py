"""The line of a row says what PostgreSQL says, whatever the types, the values and the session."""

from __future__ import annotations

from contextlib import closing

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from services.ingestion import get_table_data
from shared.jsonlines import to_json_lines
from tests.helpers.pg_tables import Column, Table, assert_lines_hold, tables
from tests.helpers.pg_types import SCHEMA, TYPES

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
