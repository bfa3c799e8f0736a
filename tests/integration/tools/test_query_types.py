"""Tables of any types and names: DuckDB has the values that PostgreSQL has, or says which not."""

from __future__ import annotations

import json
import math
from contextlib import closing
from dataclasses import replace
from struct import pack, unpack

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings

from services.ingestion import get_table_data
from shared.contracts.contract import parse
from shared.errors import ConfigError
from shared.jsonlines import to_json_lines
from shared.tables import Table
from tests.helpers.oracle.queried import queried
from tests.helpers.writers.pg_tables import tables
from tests.helpers.writers.pg_types import SCHEMA
from tools import contract as contracts
from tools.views import identifier

THING = Table("thing")


@pytest.fixture
def connection(database):
    with closing(database.connect()) as connection:
        connection.run(SCHEMA)
        yield connection


def is_same(type_, found, said):
    """Tell whether DuckDB spells the value of a type that PostgreSQL has said."""
    if found is None or said is None:
        return found == said or (type_ == "JSON" and said == "null")  # they land as the same
    if type_ in ("DOUBLE", "FLOAT"):
        expected = float(said)
        if type_ == "FLOAT" and math.isfinite(expected):
            [expected] = unpack("f", pack("f", expected))
            [found] = unpack("f", pack("f", float(found)))
        return repr(float(found)) == repr(expected)
    if type_.startswith("TIMESTAMP"):
        return moment(found) == moment(said)
    if type_ == "JSON":
        return json.loads(found, parse_int=float) == json.loads(said, parse_int=float)
    return found == said


def moment(text):
    text = text.replace("T", " ").removesuffix("+00:00").removesuffix("+00")
    return text.rstrip("0").rstrip(".") if "." in text else text


@pytest.mark.long
@settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(tables().map(lambda table: replace(table, name=THING.name)))
def test_each_value_is_the_same_or_an_error_that_names_its_column(connection, table):
    try:
        table.create(connection)
        table.insert(connection)
        contract = parse("thing.json", contracts.make(THING.name, connection))
        rows = to_json_lines(get_table_data(THING.name, 0, connection))
        said = table.says(connection)
    finally:
        table.drop(connection)
    try:
        with queried(THING, contract, {"thing/9-2026-11-26T17-55-02.jsonl": rows}) as duck:
            types = map(str, duck.sql("FROM thing").types[1:])
            for number, (column, type_) in enumerate(zip(table.columns, types, strict=True)):
                compare(duck, column, type_, [row[number] for row in said])
    except ConfigError:
        lower = [column.name.lower() for column in table.columns]
        assert len(set(lower)) < len(lower)


def compare(duck, column, type_, said):
    name = identifier(column.name)
    text = f"base64({name})" if type_ == "BLOB" else f"CAST({name} AS VARCHAR)"
    try:
        found = duck.sql(f"SELECT {text} FROM thing ORDER BY thing_id").fetchall()
    except duckdb.InvalidInputException as error:
        failure = str(error)
    else:
        pairs = [*zip([text for [text] in found], said, strict=True)]
        assert all(is_same(type_, *pair) for pair in pairs), (column, type_, pairs)
        return
    assert f"thing.{column.name} has a value that {type_} does not hold" in failure
