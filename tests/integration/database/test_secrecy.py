"""Nobody is told the value of a row: not by a log line, an error, a metric or a report.

The errors here quote one, as PostgreSQL's and Python's do.
"""

from __future__ import annotations

import json
import traceback

import pytest
from pg8000.exceptions import DatabaseError
from pg8000.native import Connection, literal

from services.ingestion.handler import lambda_handler as ingest_handler
from services.reconciliation.handler import lambda_handler as reconcile_handler
from shared.errors import PipelineError
from tests.helpers.cases import one_in
from tests.helpers.oracle import landed
from tests.helpers.runs.lambda_context import CONTEXT

pytestmark = pytest.mark.thorough

VALUE = "Ada Lovelace of 12 Square"

# DETAIL and HINT quote the value, and CONTEXT the statement that it is in. MESSAGE does not.
REFUSE = """
CREATE FUNCTION refuse(value text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE unique_violation USING
        MESSAGE = 'duplicate key value violates unique constraint "one"',
        DETAIL = format('Key (name)=(%s) already exists.', value),
        HINT = format('Delete %s.', value);
END $$;
CREATE FUNCTION refused(value text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE found text;
BEGIN
    EXECUTE format('SELECT refuse(%L)', value) INTO found;
    RETURN found;
END $$
"""
# MESSAGE itself does.
RAISE = """
CREATE FUNCTION refused(value text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'What is %?', value;
END $$
"""
CAST = """
CREATE FUNCTION refused(value text) RETURNS text LANGUAGE sql AS 'SELECT value::integer::text'
"""
SERVERS_ERRORS = {"detail": REFUSE, "raised": RAISE, "cast": CAST}

# A value that fails when a table's rows are read; and when all tables are asked for their ids.
IN_A_COLUMN = "department_id, refused(department_name) AS department_name"
IN_THE_ID = "length(refused(department_name)) AS department_id, department_name"

ONE_TABLE = {"tables": ["department"]}
REPLAY = {"replay": {"table": "department", "from_row_id": 0, "to_row_id": 9}}
CALLS = {
    "ingest, a table's rows": (ingest_handler, ONE_TABLE, IN_A_COLUMN),
    "ingest, all tables' ids": (ingest_handler, ONE_TABLE, IN_THE_ID),
    "replay": (ingest_handler, REPLAY, IN_A_COLUMN),
    "reconcile": (reconcile_handler, {}, IN_THE_ID),
}
# Rows of a view have no versions, so they can't be replayed.
READS_A_VIEW = [call for call in CALLS if call != "replay"]


@pytest.fixture
def landed_once(deployed, totesys, monkeypatch):
    """A department of that name is new; the others have landed, and can be replayed."""
    monkeypatch.setenv("WITHOUT_CHANGES", "all")
    ingest_handler(ONE_TABLE, CONTEXT)
    connection = totesys.connect()
    connection.run(f"UPDATE department SET department_name = {literal(VALUE)}")
    connection.run(
        "INSERT INTO department (department_name, location, manager, created_at, last_updated) "
        "SELECT department_name, location, manager, now(), now() FROM department LIMIT 1"
    )
    return connection


@pytest.fixture
def quoting(landed_once):
    """Make `department` a view whose rows can't be read; the error quotes one."""

    def quote(functions, columns):
        landed_once.run(functions)
        landed_once.run("ALTER TABLE department RENAME TO kept")
        landed_once.run(f"CREATE VIEW department AS SELECT {columns} FROM kept")
        with pytest.raises(DatabaseError, match=VALUE):
            landed_once.run("SELECT * FROM department")

    return quote


@pytest.fixture
def all_that_was_said(bucket, log_lines, capsys):
    """Return what an error, log lines, metrics and reports say, in one text."""

    def collect(error):
        printed = capsys.readouterr()
        reports = [landed.body(bucket, key) for key in bucket.keys("reconcile/")]
        lines = log_lines()
        assert any(line["level"] in {"ERROR", "WARNING"} for line in lines)
        # What Lambda tells of an error: its message, and where it was raised.
        raised = [str(error), repr(error), *traceback.format_tb(error.__traceback__)]
        said = [*raised, json.dumps(lines), printed.out, printed.err, *reports]
        return "\n".join(said)

    return collect


def fails(handler, event):
    with pytest.raises(PipelineError) as failure:
        handler(event, CONTEXT)
    return failure.value


@pytest.mark.parametrize("error", one_in(3, SERVERS_ERRORS))
@pytest.mark.parametrize("call", READS_A_VIEW)
def test_an_error_of_the_server_is_told_without_the_value(quoting, all_that_was_said, call, error):
    handler, event, columns = CALLS[call]
    quoting(SERVERS_ERRORS[error], columns)
    said = all_that_was_said(fails(handler, event))
    assert "SQLSTATE" in said
    assert VALUE not in said


@pytest.mark.parametrize("error", one_in(3, SERVERS_ERRORS))
def test_an_error_on_a_column_that_is_hashed_is_told_without_the_value(
    quoting, all_that_was_said, x_land, error
):
    x_land("department", department_name="hash")
    quoting(SERVERS_ERRORS[error], f"{IN_A_COLUMN}, location, manager, created_at, last_updated")
    said = all_that_was_said(fails(ingest_handler, ONE_TABLE))
    assert "SQLSTATE" in said
    assert VALUE not in said


def test_a_column_that_is_dropped_is_not_even_computed(quoting, bucket, x_land, log_lines):
    x_land("department", department_name="drop")
    # A VOLATILE one is called whether its column is asked for or not.
    stable = RAISE.replace("LANGUAGE plpgsql", "LANGUAGE plpgsql STABLE")
    quoting(stable, f"{IN_A_COLUMN}, location, manager, created_at, last_updated")
    ingest_handler(ONE_TABLE, CONTEXT)
    lines = [landed.body(bucket, key) for key in landed.data_keys(bucket, "department")]
    assert any("department_id" in line and "department_name" not in line for line in lines)
    assert VALUE not in "".join(lines) + json.dumps(log_lines())


def test_an_error_while_values_are_hashed_is_told_without_the_value(
    landed_once, all_that_was_said, x_land, monkeypatch
):
    x_land("department", department_name="hash")

    def fail(text, _):
        raise ValueError(f"can't hash {text}")

    monkeypatch.setattr("shared.hashes._hash", fail)
    said = all_that_was_said(fails(ingest_handler, ONE_TABLE))
    assert "Unexpected ValueError in" in said
    assert VALUE not in said


@pytest.mark.parametrize("call", CALLS)
def test_an_error_of_ours_is_told_without_the_value(
    landed_once, all_that_was_said, call, monkeypatch
):
    """One that nobody has thought of: its text may be anything."""
    if call == "replay":  # into a change stream, which there has to be
        monkeypatch.setenv("WITHOUT_CHANGES", "")
        ingest_handler(ONE_TABLE, CONTEXT)
    handler, event, columns = CALLS[call]
    run = Connection.run

    def fail(self, sql, *arguments, **options):
        asks_for_all = "pg_current_snapshot" in sql
        if "department" in sql and asks_for_all is (columns == IN_THE_ID and event == ONE_TABLE):
            raise ValueError(f"could not convert string to float: {VALUE!r}")
        return run(self, sql, *arguments, **options)

    monkeypatch.setattr(Connection, "run", fail)
    said = all_that_was_said(fails(handler, event))
    assert "Unexpected ValueError in" in said
    assert VALUE not in said
