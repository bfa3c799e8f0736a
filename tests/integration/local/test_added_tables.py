"""A table that only has a contract is in the local Totesys, as the contract says."""

from __future__ import annotations

import json

import pytest

from local.totesys import added_tables
from local.totesys.added_tables import create_added_tables, seed_added_tables
from services.ingestion.new_rows import read_new_rows
from shared.contracts.check import violations
from shared.contracts.contract import is_declared, parse
from shared.contracts.schema import POSTGRESQL_TYPE, nullable
from shared.postgres.survey import read_survey
from shared.tables import Table
from tests.helpers.writers import pg_types
from tools.contract import make

INVOICE = """
CREATE TYPE state AS ENUM ('OPEN', 'it''s "sent"');
CREATE DOMAIN percent AS integer;
CREATE TABLE invoice (
    invoice_id bigserial PRIMARY KEY, payment_id integer NOT NULL, discount numeric(3,1),
    state state NOT NULL, "before?" state, kind "TransactionType" NOT NULL, due date NOT NULL,
    at timestamp(3) NOT NULL, number text NOT NULL, vat percent NOT NULL, share numeric NOT NULL,
    tags text[] NOT NULL
)
"""
EXPECTED = {
    "number": {"pattern": "^INV-20[0-9]{2}/[0-9]{4}$"},
    "vat": {"minimum": 50, "maximum": 51},
    "share": {"exclusiveMinimum": 0, "exclusiveMaximum": 1},
}


@pytest.fixture
def added(tmp_path, monkeypatch):
    """Let the tables with these contracts be all that have one; return the contract of each."""
    monkeypatch.setattr(added_tables, "CONTRACTS", tmp_path)

    def add(table, text):
        (tmp_path / f"{table}.json").write_text(text)
        return parse(table, text)

    return add


def contract_text(table, connection, **expected):
    """Make a contract as people do, and add what they expect of some columns."""
    document = json.loads(make(table, connection))
    for column, rules in expected.items():
        document["properties"][column] |= rules
    return json.dumps(document)


def create(database):
    connection = database.connect()
    create_added_tables(connection)
    seed_added_tables(connection)
    return connection


def rows_of(table, contract, connection):
    """Return the rows of a table that is, and has what its contract says."""
    seen = read_survey([Table(table)], connection)
    assert is_declared(contract, seen.declared[table])
    batch = read_new_rows(Table(table), 0, connection)
    assert violations(contract, batch) == []
    return batch.rows


def test_it_has_the_columns_and_rows_that_its_contract_allows(database, totesys, added):
    elsewhere = database.connect()
    elsewhere.run("""CREATE TYPE "TransactionType" AS ENUM ('SALE', 'PURCHASE')""")
    elsewhere.run(INVOICE)
    contract = added("invoice", contract_text("invoice", elsewhere, **EXPECTED))
    connection = create(totesys)
    rows = rows_of("invoice", contract, connection)
    assert len(rows) == added_tables.ROWS
    payments = connection.run("SELECT payment_id FROM payment")
    assert {*rows["payment_id"]} <= {row_id for [row_id] in payments}
    assert {*rows["state"]} == {"OPEN", 'it\'s "sent"'}
    assert {*rows["before?"]} == {"OPEN", 'it\'s "sent"', None}
    assert {*rows["vat"]} == {50, 51}
    nullables = {column for column, rules in contract.items() if nullable(rules)}
    assert {column for column in contract if rows[column].isna().any()} == nullables


def test_the_same_contract_gives_the_same_rows(database, totesys, added):
    elsewhere = database.connect()
    elsewhere.run("CREATE TABLE invoice (invoice_id serial, number text, tags text[])")
    text = contract_text("invoice", elsewhere, number=EXPECTED["number"])
    elsewhere.run("DROP TABLE invoice")
    contract = added("invoice", text)
    first, again = (rows_of("invoice", contract, create(each)) for each in (database, totesys))
    assert first.equals(again)


def test_a_column_may_be_of_any_type(database, totesys, added):
    elsewhere = database.connect()
    elsewhere.run(pg_types.SCHEMA)
    columns = ", ".join(f"c{n} {each.name}" for n, each in enumerate(pg_types.TYPES))
    elsewhere.run(f"CREATE TABLE wide (wide_id serial, {columns})")
    contract = added("wide", contract_text("wide", elsewhere))
    rows = rows_of("wide", contract, create(totesys))
    without = [
        rules[POSTGRESQL_TYPE] for column, rules in contract.items() if rows[column].isna().all()
    ]
    assert without == ["int2vector"]  # the catalogue's own; its text is not that of an array


def test_a_table_that_totesys_sql_creates_is_left_as_it_is(database, added):
    (added_tables.CONTRACTS / "transaction.json").write_text('{"properties": {}}')
    connection = create(database)
    assert connection.run("SELECT FROM pg_stat_user_tables") == []


@pytest.mark.parametrize(
    ("rules", "says"),
    [
        ({POSTGRESQL_TYPE: "geometry(Point)", "type": "string"}, "No table invoice can be made"),
        ({POSTGRESQL_TYPE: "text", "type": "string", "pattern": "a^"}, "lets wrong have"),
        ({POSTGRESQL_TYPE: "smallint", "type": "integer", "minimum": 40_000}, "lets wrong have"),
    ],
)
def test_what_can_not_be_made_says_where_to_write_it(database, added, rules, says):
    own_id = {POSTGRESQL_TYPE: "integer", "type": "integer"}
    columns = {"invoice_id": own_id, "wrong": rules}
    (added_tables.CONTRACTS / "invoice.json").write_text(json.dumps({"properties": columns}))
    with pytest.raises(RuntimeError, match=says) as failed:
        create(database)
    assert "local/totesys/totesys.sql" in str(failed.value)
