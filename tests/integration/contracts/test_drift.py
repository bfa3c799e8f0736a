"""What is not as the contracts say, put into a real Totesys, and what the very next run says of it.

Whatever is wrong at once has a line of its own, and nothing else has one.
"""

from __future__ import annotations

import json

import pytest
from pg8000.native import identifier

from local import totesys as totesys_database
from local.cloudwatch.log_filters import matches
from services.ingestion import ingest
from shared.tables import TABLES
from tests.helpers.faults.drifts import COPIED, DRIFTS, WAVES, Damage, said, values_of
from tests.helpers.oracle import landed
from tests.helpers.oracle.cloudwatch import metric_filters

pytestmark = pytest.mark.thorough

PATTERN = metric_filters()["ContractsBrokenFilter"]["FilterPattern"]


class Ingestion:
    """Runs over a Totesys that may be damaged, into a bucket."""

    def __init__(self, totesys, bucket, log_lines, tables=TABLES):
        self.connection = totesys.connect()
        self.damage: Damage
        self.reader = totesys.connect("reader")
        self.bucket, self.log_lines, self.tables = bucket, log_lines, tables

    def run(self):
        """Run; return the log lines that CloudWatch counts as errors."""
        before = len(self.log_lines())
        self.summary = ingest(self.tables, self.bucket.client, self.reader, self.bucket.name)
        return [line for line in self.log_lines()[before:] if matches(PATTERN, json.dumps(line))]

    def assert_all_landed(self):
        for table in self.tables:
            found = self.connection.run(f"SELECT {table}_id FROM {identifier(table)} ORDER BY 1")
            assert landed.ids(self.bucket, table) == [row_id for [row_id] in found]


@pytest.fixture
def ingestion(totesys, bucket, log_lines):
    """A Totesys that has landed, and in which anything can be written from now on."""
    running = Ingestion(totesys, bucket, log_lines)
    assert running.run() == []
    running.damage = Damage(running.connection)
    return running


@pytest.fixture
def two_tables(totesys, bucket, log_lines):
    """The same with two of its tables."""
    running = Ingestion(totesys, bucket, log_lines, ("design", "staff"))
    assert running.run() == []
    running.damage = Damage(running.connection)
    return running


def test_every_table_that_is_declared_anew_is_named_once(ingestion):
    for drift in DRIFTS:
        ingestion.connection.run(f"ALTER TABLE {drift.table} {drift.change}")
    ids = {table: ingestion.damage.copy_rows(table) for table in TABLES}
    ingestion.damage.set("department", "department_name", ids["department"][-1], None)
    lines = ingestion.run()
    assert said(lines) == sorted(
        [
            drift.table, drift.column, drift.kind, drift.found, drift.rows,
            ids[drift.table][COPIED - drift.rows :],
        ]
        for drift in DRIFTS
    )  # fmt: skip
    assert {(line["column"], line["expected"]) for line in lines} == {
        (drift.column, drift.expected) for drift in DRIFTS
    }
    ingestion.assert_all_landed()
    violations = [done["contract_violations"] for done in ingestion.summary["tables"].values()]
    assert sum(violations) == len(DRIFTS)


def test_a_table_without_new_rows_is_named_as_long_as_it_is_declared_anew(ingestion):
    for drift in DRIFTS:
        ingestion.connection.run(f"ALTER TABLE {drift.table} {drift.change}")
    expected = sorted(
        [drift.table, drift.column, drift.kind, drift.found.partition(" (")[0], 0, []]
        for drift in DRIFTS
    )
    assert said(ingestion.run()) == expected
    assert said(ingestion.run()) == expected
    assert not ingestion.summary["rows"]
    ingestion.connection.run("ALTER TABLE design DROP mood")
    assert said(ingestion.run()) == [line for line in expected if line[0] != "design"]


@pytest.mark.long
def test_every_value_of_another_format_is_named_once(ingestion):
    for wave in range(WAVES):
        last = ingestion.damage.break_values(wave)
        assert said(ingestion.run()) == sorted(
            [*place, "value", found, 1, [last[place]]]
            for place, (_, found) in values_of(wave).items()
        )
        ingestion.assert_all_landed()
        for (table, column), row_id in last.items():
            ingestion.damage.mend(table, column, row_id)
    assert ingestion.run() == []


def test_a_value_that_is_changed_after_it_landed_is_named_too(two_tables):
    two_tables.damage.set("staff", "email_address", 7, "nobody")
    two_tables.damage.set("design", "created_at", 9, "infinity")
    two_tables.connection.run("SELECT pg_stat_force_next_flush()")  # or they come some runs later
    assert said(two_tables.run()) == [
        ["design", "created_at", "value", "string against minLength, pattern", 1, [9]],
        ["staff", "email_address", "value", "string against pattern", 1, [7]],
    ]


def test_a_column_of_another_name_is_one_gone_and_one_new(two_tables):
    two_tables.connection.run("ALTER TABLE staff RENAME email_address TO email")
    ids = two_tables.damage.copy_rows("staff")
    assert said(two_tables.run()) == [
        ["staff", "email", "column added", "text", COPIED, ids],
        ["staff", "email_address", "column missing", "no such column", COPIED, ids],
    ]


def test_a_backlog_in_many_batches_has_one_line_for_each_column(totesys, bucket, log_lines):
    ingestion = Ingestion(totesys, bucket, log_lines, ["sales_order"])
    ingestion.connection.run("UPDATE sales_order SET agreed_payment_date = 'soon'")
    ingestion.connection.run("ALTER TABLE sales_order ALTER units_sold TYPE bigint")
    assert [line[:2] for line in said(ingestion.run())] == [
        ["sales_order", "agreed_payment_date"],
        ["sales_order", "units_sold"],
    ]


def test_no_value_of_a_row_is_logged(two_tables):
    secret = "s3cr3t-0r-p3rs0nal"
    ids = two_tables.damage.copy_rows("staff")
    two_tables.damage.set("staff", "email_address", ids[0], secret)
    assert len(two_tables.run()) == 1
    assert secret not in json.dumps(two_tables.log_lines())


def test_generated_data_is_as_the_contracts_say(totesys, bucket, log_lines):
    ingestion = Ingestion(totesys, bucket, log_lines)
    assert ingestion.run() == []
    totesys_database.add_events(ingestion.connection, 20)
    assert ingestion.run() == []
    assert not [line for line in log_lines() if line["level"] == "WARNING"]


@pytest.mark.parametrize("rows", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_many_rows_are_as_the_contracts_say(totesys, bucket, log_lines, rows):
    ingestion = Ingestion(totesys, bucket, log_lines, ["sales_order"])
    totesys_database.bulk_sales_orders(ingestion.connection, rows)
    assert ingestion.run() == []
    assert ingestion.summary["tables"]["sales_order"]["rows"] > rows
