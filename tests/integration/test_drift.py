"""What is not as the contracts say, put into a real Totesys, and what the very next run says of it.

Whatever is wrong at once has a line of its own, and nothing else has one.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import pytest
from pg8000.native import identifier

from local import totesys as totesys_database
from services.ingestion.ingest import ingest
from services.ingestion.tables import TABLES
from tests.helpers import landed
from tests.helpers.cloudwatch import matches, metric_filters

PATTERN = metric_filters()["ErrorLinesFilter"]["FilterPattern"]
COPIED = 3
TIMESTAMP = "timestamp(3) without time zone"


class Drift(NamedTuple):
    """A table that is declared anew, and what is said of it.

    `rows` of the new rows, the last ones, break the contract by that.
    """

    table: str
    column: str
    change: str
    kind: str
    expected: str
    found: str
    rows: int


DRIFTS = [
    Drift("address", "district", "DROP district", "column gone", "text", "no such column", COPIED),
    Drift("design", "mood", "ADD mood jsonb", "column new", "no such column", "jsonb", COPIED),
    Drift("sales_order", "units_sold", "ALTER units_sold TYPE bigint",
          "type", "integer", "bigint", 0),
    Drift("sales_order", "unit_price", "ALTER unit_price TYPE numeric(12,4)",
          "type", "numeric(10,2)", "numeric(12,4)", 0),
    Drift("purchase_order", "agreed_payment_date",
          "ALTER agreed_payment_date TYPE date USING agreed_payment_date::date",
          "type", "text", "date", 0),
    Drift("payment", "payment_amount", "ALTER payment_amount TYPE text",
          "type", "numeric(10,2)", "text (string)", COPIED),
    Drift("payment", "paid", "ALTER paid TYPE integer USING paid::integer",
          "type", "boolean", "integer (number)", COPIED),
    Drift("staff", "created_at", "ALTER created_at TYPE timestamptz",
          "type", TIMESTAMP, "timestamp with time zone (string against maxLength, pattern)",
          COPIED),
    Drift("staff", "last_updated", "ALTER last_updated TYPE timestamp(0)",
          "type", TIMESTAMP, "timestamp(0) without time zone", 0),
    Drift("currency", "currency_code", "ALTER currency_code TYPE varchar(8)",
          "type", "character varying(3)", "character varying(8)", 0),
    Drift("payment_type", "payment_type_name", "ALTER payment_type_name TYPE text",
          "type", '"PaymentTypeName"', "text", 0),
    Drift("counterparty", "counterparty_legal_name", "ALTER counterparty_legal_name DROP NOT NULL",
          "nullability", "NOT NULL", "NULL allowed", 0),
    Drift("department", "department_name",
          "ALTER department_name DROP NOT NULL, ALTER department_name SET DEFAULT NULL",
          "nullability", "NOT NULL", "NULL allowed (null)", 1),
    Drift("department", "location",
          "ALTER location TYPE text USING coalesce(location, ''), ALTER location SET NOT NULL",
          "nullability", "NULL allowed", "NOT NULL", 0),
]  # fmt: skip

# Values that break a contract, and what they are said to be, a wave of them after the other.
ORDER_DATES = [
    ("2022-02-30", "string against pattern"),
    ("2022-11-3", "string against minLength, pattern"),
    ("2022-11-03\n", "string against maxLength"),
    ("0202-11-03", "string against pattern"),
    ("", "string against minLength, pattern"),
]
MOMENTS = [
    ("infinity", "string against minLength, pattern"),
    ("0044-03-15 12:00 BC", "string against minLength, pattern"),
    ("12022-11-03 14:20:52.186", "string against minLength, pattern"),
]
PRICES = [
    ("0", "number against exclusiveMinimum"),
    ("-3.10", "number against exclusiveMinimum"),
    ("NaN", "string"),
]
ACCOUNTS = [("1234567", "number against minimum"), ("100000000", "number against maximum")]
BROKEN = {
    ("staff", "email_address"): [
        (text, "string against pattern") for text in ("nobody", "a@b", "@b.c", "a@b@c.d")
    ] + [("a b@c.d", "string against not"), ("a@b.c\n", "string against not")],
    ("staff", "created_at"): MOMENTS,
    ("currency", "currency_code"): [
        ("gbp", "string against pattern"), ("€", "string against minLength, pattern"),
        ("GB", "string against minLength, pattern"), ("GB\n", "string against pattern"),
    ],
    ("payment_type", "payment_type_name"): [("GIFT", "string against enum")],
    ("transaction", "transaction_type"): [("GIFT", "string against enum")],
    ("transaction", "sales_order_id"): [("0", "number against minimum")],
    ("sales_order", "agreed_delivery_date"): ORDER_DATES,
    ("sales_order", "units_sold"): [("0", "number against minimum")],
    ("sales_order", "unit_price"): PRICES,
    ("purchase_order", "agreed_payment_date"): ORDER_DATES[::-1],
    ("purchase_order", "item_quantity"): [("-1", "number against minimum")],
    ("purchase_order", "item_unit_price"): PRICES[::-1],
    ("payment", "payment_date"): ORDER_DATES[2:],
    ("payment", "payment_amount"): PRICES,
    ("payment", "company_ac_number"): ACCOUNTS,
    ("payment", "counterparty_ac_number"): ACCOUNTS[::-1],
    ("payment", "last_updated"): MOMENTS[::-1],
}  # fmt: skip
WAVES = max(map(len, BROKEN.values()))


class Ingestion:
    """Runs over a Totesys that may be damaged, into a bucket."""

    def __init__(self, totesys, bucket, log_lines):
        self.connection = totesys.connect()
        self.reader = totesys.connect("reader")
        self.bucket, self.log_lines = bucket, log_lines

    def run(self):
        """Run; return the log lines that CloudWatch counts as errors."""
        before = len(self.log_lines())
        self.summary = ingest(TABLES, self.bucket.client, self.reader, self.bucket.name)
        return [line for line in self.log_lines()[before:] if matches(PATTERN, json.dumps(line))]

    def copy_rows(self, table):
        """Insert copies of some rows; return the new ids."""
        [[columns]] = self.connection.run(
            "SELECT string_agg(quote_ident(attname), ', ') FROM pg_attribute"
            " WHERE attrelid = to_regclass(:table) AND attnum > 1 AND NOT attisdropped",
            table=identifier(table),
        )
        copied = self.connection.run(
            f"INSERT INTO {identifier(table)} ({columns}) SELECT {columns}"
            f" FROM {identifier(table)} ORDER BY {table}_id LIMIT {COPIED} RETURNING {table}_id"
        )
        return [row_id for [row_id] in copied]

    def set(self, table, column, row_id, value):
        """Change a value, given as text."""
        [[type_name]] = self.connection.run(
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute"
            " WHERE attrelid = to_regclass(:table) AND attname = :column",
            table=identifier(table), column=column,
        )  # fmt: skip
        self.connection.run(
            f"UPDATE {identifier(table)} SET {column} = :value::text::{type_name}"
            f" WHERE {table}_id = {row_id}",
            value=value,
        )

    def mend(self, table, column, row_id):
        """Put a good value where a broken one was: changed rows are looked at again."""
        self.connection.run(
            f"UPDATE {identifier(table)} SET {column} = good.{column}"
            f" FROM (SELECT * FROM {identifier(table)} ORDER BY {table}_id LIMIT 1) AS good"
            f" WHERE {identifier(table)}.{table}_id = {row_id}"
        )

    def assert_all_landed(self):
        for table in TABLES:
            found = self.connection.run(f"SELECT {table}_id FROM {identifier(table)} ORDER BY 1")
            assert landed.ids(self.bucket, table) == [row_id for [row_id] in found]


@pytest.fixture
def ingestion(totesys, bucket, log_lines):
    """A Totesys that has landed, and in which anything can be written from now on."""
    running = Ingestion(totesys, bucket, log_lines)
    assert running.run() == []
    for index in (
        "payment_transaction_id_key",
        "transaction_sales_order_id_key",
        "transaction_purchase_order_id_key",
    ):
        running.connection.run(f"DROP INDEX {index}")
    running.connection.run("SET session_replication_role = replica")  # no foreign keys
    for enum in ("PaymentTypeName", "TransactionType"):
        running.connection.run(f"ALTER TYPE {identifier(enum)} ADD VALUE 'GIFT'")
    return running


def said(lines):
    """Return what lines say, sorted by table and column."""
    fields = ("table", "column", "kind", "found", "rows", "first_ids")
    return sorted([line[field] for field in fields] for line in lines)


def test_every_table_that_is_declared_anew_is_named_once(ingestion):
    for drift in DRIFTS:
        ingestion.connection.run(f"ALTER TABLE {drift.table} {drift.change}")
    ids = {table: ingestion.copy_rows(table) for table in TABLES}
    ingestion.set("department", "department_name", ids["department"][-1], None)
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


def test_every_value_of_another_format_is_named_once(ingestion):
    for wave in range(WAVES):
        broken = {place: values[wave] for place, values in BROKEN.items() if wave < len(values)}
        last = {table: ingestion.copy_rows(table)[-1] for table in {table for table, _ in broken}}
        for (table, column), (value, _) in broken.items():
            ingestion.set(table, column, last[table], value)
        assert said(ingestion.run()) == sorted(
            [table, column, "value", found, 1, [last[table]]]
            for (table, column), (_, found) in broken.items()
        )
        ingestion.assert_all_landed()
        for table, column in broken:
            ingestion.mend(table, column, last[table])
    assert ingestion.run() == []


def test_a_value_that_is_changed_after_it_landed_is_named_too(ingestion):
    ingestion.set("staff", "email_address", 7, "nobody")
    ingestion.set("design", "created_at", 9, "infinity")
    ingestion.connection.run("SELECT pg_stat_force_next_flush()")  # or they come some runs later
    assert said(ingestion.run()) == [
        ["design", "created_at", "value", "string against minLength, pattern", 1, [9]],
        ["staff", "email_address", "value", "string against pattern", 1, [7]],
    ]


def test_a_column_of_another_name_is_one_gone_and_one_new(ingestion):
    ingestion.connection.run("ALTER TABLE staff RENAME email_address TO email")
    ids = ingestion.copy_rows("staff")
    assert said(ingestion.run()) == [
        ["staff", "email", "column new", "text", COPIED, ids],
        ["staff", "email_address", "column gone", "no such column", COPIED, ids],
    ]


def test_a_backlog_in_many_batches_has_one_line_for_each_column(totesys, bucket, log_lines):
    ingestion = Ingestion(totesys, bucket, log_lines)
    ingestion.connection.run("UPDATE sales_order SET agreed_payment_date = 'soon'")
    ingestion.connection.run("ALTER TABLE sales_order ALTER units_sold TYPE bigint")
    assert [line[:2] for line in said(ingestion.run())] == [
        ["sales_order", "agreed_payment_date"],
        ["sales_order", "units_sold"],
    ]


def test_no_value_of_a_row_is_logged(ingestion):
    secret = "s3cr3t-0r-p3rs0nal"
    ids = ingestion.copy_rows("staff")
    ingestion.set("staff", "email_address", ids[0], secret)
    assert len(ingestion.run()) == 1
    assert secret not in json.dumps(ingestion.log_lines())


def test_generated_data_is_as_the_contracts_say(totesys, bucket, log_lines):
    ingestion = Ingestion(totesys, bucket, log_lines)
    assert ingestion.run() == []
    totesys_database.add_events(ingestion.connection, 20)
    assert ingestion.run() == []
    assert not [line for line in log_lines() if line["level"] == "WARNING"]


@pytest.mark.parametrize("rows", [20_000, pytest.param(100_000, marks=pytest.mark.long)])
def test_many_rows_are_as_the_contracts_say(totesys, bucket, log_lines, rows):
    ingestion = Ingestion(totesys, bucket, log_lines)
    totesys_database.bulk_sales_orders(ingestion.connection, rows)
    assert ingestion.run() == []
    assert ingestion.summary["tables"]["sales_order"]["rows"] > rows
