"""Lines that landed become the frame that they were made of, whatever the types and values."""

from __future__ import annotations

import re
from contextlib import closing

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingestion import get_table_data
from services.ingestion.new_rows import read_new_rows
from shared import tables as our
from shared.contracts.contract import parse
from shared.contracts.frames import join_frames, parse_rows, to_frame
from shared.jsonlines import to_json_lines
from shared.personal import PersonalData
from shared.tables import TABLES
from tests.helpers.cases import one_in
from tests.helpers.oracle.contracts import contract_of
from tests.helpers.oracle.frames import assert_same
from tests.helpers.writers.pg_tables import Column, Table, tables
from tests.helpers.writers.pg_types import SCHEMA, TYPES
from tests.integration.database.test_columns import of_edges
from tools.contract import make

MOST_PARTS = 30
SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]


@pytest.fixture(scope="module")
def connection(server):
    name = "frames"
    server.create_database(name)
    with closing(server.connect(name)) as connection:
        connection.run(SCHEMA)
        yield connection
    server.drop_database(name)


def lines_of(frame):
    return to_json_lines(frame).split(b"\n")[:-1]


def check(frame, contract):
    """Make the frame of its lines, at once and of parts."""
    lines = lines_of(frame)
    assert_same(to_frame(parse_rows(lines, contract), contract), frame)
    few = lines[-MOST_PARTS:]
    parts = [to_frame(parse_rows([line], contract), contract) for line in few]
    for size in {1, len(few)}:
        places = np.arange(len(few))[-size:]
        expected = to_frame(parse_rows(few[-size:], contract), contract)
        assert_same(join_frames([to_frame([], contract), *parts], places, contract), expected)


def check_table(table, connection):
    table.create(connection)
    try:
        table.insert(connection)
        check(get_table_data(table.name, 0, connection), parse("a", make(table.name, connection)))
    finally:
        table.drop(connection)


@pytest.mark.parametrize("type_", one_in(4, TYPES), ids=repr)
def test_every_type(type_, connection):
    @settings(max_examples=2, deadline=None, database=None, suppress_health_check=SLOW)
    @given(st.lists(st.tuples(st.none() | type_.values), min_size=1, max_size=20), st.booleans())
    def test(rows, nullable):
        kept = rows if nullable else [row for row in rows if row[0] is not None]
        check_table(Table("one", [Column("value", type_, nullable)], kept), connection)

    test()


@pytest.mark.parametrize("nullable", [False, True], ids=["not null", "nullable"])
def test_the_edges_of_types(nullable, connection):
    check_table(of_edges(nullable), connection)


@pytest.mark.parametrize("examples", [8, pytest.param(60, marks=pytest.mark.long)])
def test_any_table(examples, connection):
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=SLOW)
    @given(tables())
    def test(table):
        check_table(table, connection)

    test()


def check_personal_data(table, forms, connection):
    """Make the frame of lines that have landed with hashes, and without what is dropped."""
    table.create(connection)
    try:
        table.insert(connection)
        source = parse("a", make(table.name, connection))
        before = get_table_data(table.name, 0, connection)
        named = {
            form: frozenset(name for name in forms if forms[name] == form)
            for form in ("drop", "hash")
        }
        personal = PersonalData(named["drop"], named["hash"], b"a key of the hashes")
        landed = read_new_rows(our.Table(table.name), 0, connection, personal=personal).rows
    finally:
        table.drop(connection)
    contract = {**source, **{name: {**source[name], "x-land": forms[name]} for name in forms}}
    check(landed, contract)
    assert not named["drop"] & set(landed)
    for name in named["hash"]:
        assert all(value is None or re.fullmatch("[0-9a-f]{64}", value) for value in landed[name])
    # What landed before the contract said so has all columns.
    found = to_frame(parse_rows(lines_of(before), contract), contract)
    assert list(found) == list(landed)
    assert {str(to_frame([], contract).dtypes[name]) for name in named["hash"]} <= {"object"}


@pytest.mark.parametrize("form", ["drop", "hash"])
def test_personal_data_of_every_type(form, connection):
    table = of_edges(nullable=True)
    check_personal_data(table, {column.name: form for column in table.columns}, connection)


@pytest.mark.parametrize("examples", [4, pytest.param(40, marks=pytest.mark.long)])
def test_personal_data_of_any_table(examples, connection):
    @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=SLOW)
    @given(tables(), st.data())
    def test(table, data):
        drawn = {
            column.name: data.draw(st.sampled_from(["drop", "hash", "land"]))
            for column in table.columns
        }
        forms = {name: form for name, form in drawn.items() if form != "land"}
        check_personal_data(table, forms, connection)

    test()


@pytest.mark.parametrize("table", one_in(4, TABLES))
def test_the_tables_of_totesys(totesys, table):
    check(get_table_data(table, 0, totesys.connect()), contract_of(table))
