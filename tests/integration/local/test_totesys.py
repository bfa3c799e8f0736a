"""The generated Totesys database has the schema and the quirks of the real one."""

from __future__ import annotations

from contextlib import closing
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

import pytest

from local import totesys as totesys_database
from shared import tables as ingested

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pg8000.native import Connection

    from local.totesys.database import Server

pytestmark = pytest.mark.thorough

# In their order; `?` is nullable, ts3 a timestamp(3) without time zone.
COLUMNS = {
    "address": "address_id int4, address_line_1 text, address_line_2 text?, district text?, "
    "city text, postal_code text, country text, phone text, created_at ts3, last_updated ts3",
    "counterparty": "counterparty_id int4, counterparty_legal_name text, legal_address_id int4, "
    "commercial_contact text?, delivery_contact text?, created_at ts3, last_updated ts3",
    "currency": "currency_id int4, currency_code varchar(3), created_at ts3, last_updated ts3",
    "department": "department_id int4, department_name text, location text?, manager text?, "
    "created_at ts3, last_updated ts3",
    "design": "design_id int4, created_at ts3, design_name text, file_location text, "
    "file_name text, last_updated ts3",
    "payment_type": 'payment_type_id int4, payment_type_name "PaymentTypeName", created_at ts3, '
    "last_updated ts3",
    "staff": "staff_id int4, first_name text, last_name text, department_id int4, "
    "email_address text, created_at ts3, last_updated ts3",
    "sales_order": "sales_order_id int4, created_at ts3, last_updated ts3, design_id int4, "
    "staff_id int4, counterparty_id int4, units_sold int4, unit_price numeric(10,2), "
    "currency_id int4, agreed_delivery_date text, agreed_payment_date text, "
    "agreed_delivery_location_id int4",
    "purchase_order": "purchase_order_id int4, created_at ts3, last_updated ts3, staff_id int4, "
    "counterparty_id int4, item_code text, item_quantity int4, item_unit_price numeric(10,2), "
    "currency_id int4, agreed_delivery_date text, agreed_payment_date text, "
    "agreed_delivery_location_id int4",
    "transaction": 'transaction_id int4, transaction_type "TransactionType", '
    "sales_order_id int4?, purchase_order_id int4?, created_at ts3, last_updated ts3",
    "payment": "payment_id int4, created_at ts3, last_updated ts3, transaction_id int4, "
    "counterparty_id int4, payment_amount numeric(10,2), currency_id int4, payment_type_id int4, "
    "paid bool, payment_date text, company_ac_number int4, counterparty_ac_number int4",
    "_prisma_migrations": "id varchar(36), checksum varchar(64), finished_at timestamptz?, "
    "migration_name varchar(255), logs text?, rolled_back_at timestamptz?, started_at timestamptz, "
    "applied_steps_count int4",
}
TABLES = [table for table in COLUMNS if table != "_prisma_migrations"]
# Tables that were added to the service, and are made of their contracts.
ADDED = [table for table in ingested.TABLES if table not in COLUMNS]

REFERENCES = {
    "counterparty": {"legal_address_id": "address"},
    "staff": {"department_id": "department"},
    "sales_order": {
        "design_id": "design",
        "staff_id": "staff",
        "counterparty_id": "counterparty",
        "currency_id": "currency",
        "agreed_delivery_location_id": "address",
    },
    "purchase_order": {
        "staff_id": "staff",
        "counterparty_id": "counterparty",
        "currency_id": "currency",
        "agreed_delivery_location_id": "address",
    },
    "transaction": {"sales_order_id": "sales_order", "purchase_order_id": "purchase_order"},
    "payment": {
        "transaction_id": "transaction",
        "counterparty_id": "counterparty",
        "currency_id": "currency",
        "payment_type_id": "payment_type",
    },
}

_SHORT_NAMES = {
    "timestamp(3) without time zone": "ts3",
    "timestamp with time zone": "timestamptz",
    "integer": "int4",
    "boolean": "bool",
    "character varying": "varchar",
}


@pytest.fixture(scope="module")
def seeded(server: Server, totesys_template: str) -> Iterator[Connection]:
    """A connection to a copy of the template that the tests of this module only read."""
    server.create_database("totesys_read", totesys_template)
    with closing(server.connect("totesys_read")) as connection:
        yield connection
    server.drop_database("totesys_read")


def _column(connection: Connection, sql: str) -> list[Any]:
    return [row[0] for row in connection.run(sql)]


def _rows(connection: Connection, tables: list[str] = TABLES) -> dict[str, Any]:
    return {t: connection.run(f'SELECT * FROM "{t}" ORDER BY {t}_id') for t in tables}


class TestSchema:
    def test_tables(self, seeded):
        tables = _column(seeded, "SELECT relname FROM pg_stat_user_tables")
        assert sorted(tables) == sorted([*COLUMNS, *ADDED])

    @pytest.mark.parametrize("table", COLUMNS)
    def test_columns_in_their_order(self, seeded, table):
        columns = _column(
            seeded,
            "SELECT attname || ' ' || format_type(atttypid, atttypmod) "
            "|| CASE WHEN attnotnull THEN '' ELSE '?' END FROM pg_attribute "
            f"WHERE attrelid = '\"{table}\"'::regclass AND attnum > 0 ORDER BY attnum",
        )
        found = ", ".join(columns)
        for long, short in _SHORT_NAMES.items():
            found = found.replace(long, short)
        assert found == COLUMNS[table]

    @pytest.mark.parametrize("table", TABLES)
    def test_defaults(self, seeded, table):
        defaults = seeded.run(
            "SELECT column_name::text, column_default::text FROM information_schema.columns "
            f"WHERE table_name = '{table}' AND column_default IS NOT NULL"
        )
        sequence = f"{table}_{table}_id_seq"
        assert dict(defaults) == {
            f"{table}_id": f"nextval('{sequence}'::regclass)",
            "created_at": "CURRENT_TIMESTAMP",
        }

    def test_sequences(self, seeded):
        sequences = seeded.run(
            "SELECT sequencename::text, data_type::text, start_value, increment_by, cache_size, "
            "cycle FROM pg_sequences ORDER BY 1"
        )
        expected = [
            [f"{t}_{t}_id_seq", "integer", 1, 1, 1, False] for t in sorted([*TABLES, *ADDED])
        ]
        assert sequences == expected

    def test_primary_keys(self, seeded):
        keys = _column(
            seeded,
            "SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE contype = 'p' AND connamespace = 'public'::regnamespace",
        )
        expected = [f"{table} PRIMARY KEY ({table}_id)" for table in [*TABLES, *ADDED]]
        assert sorted(keys) == sorted([*expected, "_prisma_migrations PRIMARY KEY (id)"])

    def test_enums(self, seeded):
        labels = "SELECT unnest(enum_range(NULL::{}))::text"
        assert _column(seeded, labels.format('"PaymentTypeName"')) == [
            "SALES_RECEIPT",
            "SALES_REFUND",
            "PURCHASE_PAYMENT",
            "PURCHASE_REFUND",
        ]
        assert _column(seeded, labels.format('"TransactionType"')) == ["SALE", "PURCHASE"]

    def test_foreign_keys_and_their_actions(self, seeded):
        found = _column(
            seeded,
            "SELECT conrelid::regclass || ' ' || pg_get_constraintdef(oid) FROM pg_constraint "
            "WHERE contype = 'f'",
        )
        expected = [
            f"{table} FOREIGN KEY ({column}) REFERENCES {parent}({parent}_id) "
            f"ON UPDATE CASCADE ON DELETE {'SET NULL' if table == 'transaction' else 'RESTRICT'}"
            for table, columns in REFERENCES.items()
            for column, parent in columns.items()
        ]
        assert sorted(found) == sorted(expected)

    def test_indexes_beside_the_primary_keys(self, seeded):
        found = _column(
            seeded,
            "SELECT pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON oid = indrelid "
            "WHERE NOT indisprimary AND relnamespace = 'public'::regnamespace",
        )
        columns = {
            "payment_transaction_id": "payment USING btree (transaction_id)",
            "transaction_purchase_order_id": "transaction USING btree (purchase_order_id)",
            "transaction_sales_order_id": "transaction USING btree (sales_order_id)",
        }
        expected = [f"CREATE UNIQUE INDEX {n}_key ON public.{c}" for n, c in columns.items()]
        assert sorted(found) == expected

    def test_no_trigger_and_no_check(self, seeded):
        assert seeded.run("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal") == []
        checks = "SELECT 1 FROM pg_constraint WHERE contype = 'c' AND conrelid <> 0"
        assert seeded.run(f"{checks} AND connamespace = 'public'::regnamespace") == []


class TestSmallTables:
    def test_row_counts(self, seeded):
        counts = {
            table: seeded.run(f"SELECT count(*), max({table}_id) FROM {table}")[0]
            for table in TABLES[:7]
        }
        assert counts == {
            "address": [30, 30],
            "counterparty": [20, 20],
            "currency": [3, 3],
            "department": [8, 8],
            "design": [470, 470],
            "payment_type": [4, 4],
            "staff": [20, 20],
        }

    def test_the_real_codes_and_the_real_typo(self, seeded):
        codes = "SELECT currency_code FROM currency ORDER BY currency_id"
        assert _column(seeded, codes) == ["GBP", "USD", "EUR"]
        names = "SELECT payment_type_name FROM payment_type WHERE payment_type_id IN (1, 3)"
        assert _column(seeded, f"{names} ORDER BY 1") == ["SALES_RECEIPT", "PURCHASE_PAYMENT"]
        assert _column(seeded, "SELECT location FROM department WHERE department_id = 4") == [
            "Leds"
        ]

    @pytest.mark.parametrize(
        "odd",
        [",", '"', "'", "\n", "\t", "\\", "é", "東", "🛍", "("],
        ids=["comma", "quote", "apostrophe", "newline", "tab", "backslash", "accent", "cjk",
             "emoji", "parenthesis"],
    )  # fmt: skip
    def test_text_that_breaks_naive_code(self, seeded, odd):
        texts = [str(value) for row in _rows(seeded, ["address"])["address"] for value in row]
        assert any(odd in text for text in texts)

    def test_empty_is_not_null(self, seeded):
        lines = set(_column(seeded, "SELECT address_line_2 FROM address"))
        assert {"", None} < lines

    def test_leading_zeros(self, seeded):
        assert _column(seeded, "SELECT 1 FROM address WHERE postal_code LIKE '0%'")
        assert _column(seeded, "SELECT 1 FROM address WHERE phone LIKE '0%'")


class TestEvents:
    def test_an_event_is_three_rows_of_one_created_at(self, seeded):
        events = seeded.run(
            "SELECT t.created_at = o.created_at AND t.created_at = p.created_at, "
            "       t.transaction_type = o.kind, p.counterparty_id = o.counterparty_id, "
            "       p.payment_amount = o.amount, p.payment_type_id = o.payment_type_id "
            "FROM transaction t JOIN payment p USING (transaction_id) JOIN ("
            "  SELECT 'SALE'::\"TransactionType\" AS kind, sales_order_id, NULL::int AS bought, "
            "         created_at, counterparty_id, units_sold * unit_price AS amount, "
            "         1 AS payment_type_id FROM sales_order "
            "  UNION ALL SELECT 'PURCHASE', NULL, purchase_order_id, created_at, "
            "         counterparty_id, item_quantity * item_unit_price, 3 FROM purchase_order"
            ") o ON (t.sales_order_id, t.purchase_order_id) "
            "       IS NOT DISTINCT FROM (o.sales_order_id, o.bought)"
        )
        assert events == [[True] * 5] * 300

    def test_both_kinds_and_no_row_beside_the_events(self, seeded):
        counts = {t: _column(seeded, f"SELECT count(*) FROM {t}")[0] for t in TABLES[7:]}
        assert counts["transaction"] == counts["payment"] == 300
        assert counts["sales_order"] + counts["purchase_order"] == 300
        assert min(counts.values()) > 50

    def test_timestamps_are_milliseconds_and_some_have_none(self, seeded):
        moments: list[datetime] = _column(seeded, "SELECT created_at FROM transaction")
        assert all(moment.microsecond % 1000 == 0 for moment in moments)
        assert 0 < sum(moment.microsecond == 0 for moment in moments) < 30

    def test_ids_do_not_follow_the_clock(self, seeded):
        moments = _column(seeded, "SELECT created_at FROM transaction ORDER BY transaction_id")
        assert moments != sorted(moments)

    def test_office_hours(self, seeded):
        moments: list[datetime] = _column(seeded, "SELECT created_at FROM transaction")
        assert all(moment.weekday() < 5 and 8 <= moment.hour < 18 for moment in moments)

    @pytest.mark.parametrize("table", TABLES[7:])
    def test_ids_have_gaps(self, seeded, table):
        ((count, highest),) = seeded.run(f"SELECT count(*), max({table}_id) FROM {table}")
        assert count < highest

    def test_ids_came_from_the_sequences(self, seeded):
        for table in TABLES:
            last = _column(seeded, f"SELECT last_value FROM {table}_{table}_id_seq")
            assert last >= _column(seeded, f"SELECT max({table}_id) FROM {table}")

    def test_dates_are_iso_text_after_the_event(self, seeded):
        dates = seeded.run(
            "SELECT created_at, agreed_delivery_date, agreed_payment_date FROM sales_order "
            "UNION ALL "
            "SELECT created_at, agreed_delivery_date, agreed_payment_date FROM purchase_order "
            "UNION ALL SELECT created_at, payment_date, payment_date FROM payment"
        )
        for created_at, *texts in dates:
            for text in texts:
                assert date.fromisoformat(text).isoformat() == text
                assert 1 <= (date.fromisoformat(text) - created_at.date()).days <= 6

    def test_due_payments_were_paid_on_the_morning_of_their_date(self, seeded):
        payments = seeded.run("SELECT paid, created_at, last_updated, payment_date FROM payment")
        newest = max(created_at for _, created_at, _, _ in payments)
        for paid, created_at, last_updated, payment_date in payments:
            due = date.fromisoformat(payment_date)
            assert paid == (due.weekday() < 5 and due <= newest.date())
            assert last_updated.date() == (due if paid else created_at.date())
            assert (last_updated > created_at) == paid
        assert 100 < sum(paid for paid, *_ in payments) < 250

    @pytest.mark.parametrize("table", [table for table in TABLES if table != "payment"])
    def test_nothing_else_was_updated(self, seeded, table):
        assert seeded.run(f"SELECT 1 FROM {table} WHERE created_at <> last_updated") == []

    def test_payments_lie_in_another_order_than_their_ids(self, seeded):
        ids = _column(seeded, "SELECT payment_id FROM payment ORDER BY ctid")
        assert ids != sorted(ids)

    @pytest.mark.parametrize(
        ("column", "low", "high"),
        [
            ("sales_order.unit_price", 2, 4),
            ("sales_order.units_sold", 1001, 99_973),
            ("purchase_order.item_unit_price", 3, 1000),
            ("purchase_order.item_quantity", 1, 999),
            ("payment.payment_amount", 3, 1_000_000),
            ("payment.company_ac_number", 10_000_000, 99_999_999),
            ("payment.counterparty_ac_number", 10_000_000, 99_999_999),
        ],
    )
    def test_numbers_are_in_the_real_ranges(self, seeded, column, low, high):
        table, name = column.split(".")
        ((least, most),) = seeded.run(f"SELECT min({name}), max({name}) FROM {table}")
        assert low <= least < most <= high


@pytest.mark.parametrize(
    "column",
    [
        f"{table}.{column.split()[0]}"
        for table in TABLES
        for column in COLUMNS[table].split(", ")
        if column.endswith("?")
    ],
)
def test_nullable_columns_have_both_kinds(seeded, column):
    table, name = column.split(".")
    ((filled, rows),) = seeded.run(f"SELECT count({name}), count(*) FROM {table}")
    assert 0 < filled < rows


def test_the_seed_decides_every_row(seeded, database):
    same = database.connect()
    totesys_database.create(same)
    totesys_database.seed(same, events=300)
    assert _rows(same) == _rows(seeded)


def test_another_seed_makes_other_rows(seeded, database):
    other = database.connect()
    totesys_database.create(other)
    totesys_database.seed(other, events=10, seed=7)
    for table in ("address", "design", "transaction", "payment"):
        assert _rows(other, [table])[table] != _rows(seeded, [table])[table][:10]


def test_added_events_come_after_the_others_one_transaction_each(totesys):
    connection = totesys.connect()
    before = _rows(connection)
    totesys_database.add_events(connection, 12)
    after = _rows(connection)
    assert {t: len(after[t]) - len(before[t]) for t in ("transaction", "payment")} == {
        "transaction": 12,
        "payment": 12,
    }
    assert all(after[table][: len(before[table])] == before[table] for table in TABLES)
    ((transactions, moments, aged),) = connection.run(
        "SELECT count(DISTINCT p.xmin::text), count(*) FILTER (WHERE p.created_at = t.created_at), "
        "max(age(localtimestamp, p.created_at)) < interval '1 hour' "
        "FROM payment p JOIN transaction t USING (transaction_id) WHERE p.payment_id > "
        f"{before['payment'][-1][0]}"
    )
    assert (transactions, moments, aged) == (12, 12, True)


def test_added_events_depend_on_their_seed(totesys):
    connection = totesys.connect()
    for seed in (5, 5, 6):
        totesys_database.add_events(connection, 1, seed)
    amounts = _column(connection, "SELECT payment_amount FROM payment ORDER BY payment_id DESC")
    assert amounts[1] == amounts[2] != amounts[0]


def test_bulk_sales_orders_are_as_good_as_the_others(totesys):
    connection = totesys.connect()
    ((highest,),) = connection.run("SELECT last_value FROM sales_order_sales_order_id_seq")
    totesys_database.bulk_sales_orders(connection, 5000)
    bulk = f"FROM sales_order WHERE sales_order_id > {highest}"
    ((count, least, most),) = connection.run(
        f"SELECT count(*), min(sales_order_id), max(sales_order_id) {bulk}"
    )
    assert (count, least, most) == (5000, highest + 1, highest + 5000)
    for column, parent in REFERENCES["sales_order"].items():
        ids = f"SELECT {parent}_id FROM {parent}"
        assert connection.run(f"SELECT 1 {bulk} AND {column} NOT IN ({ids})") == []
        assert _column(connection, f"SELECT count(DISTINCT {column}) > 2 {bulk}") == [True]
    assert connection.run(
        "SELECT min(unit_price) >= 2, max(unit_price) <= 4, min(units_sold) >= 1001, "
        f"bool_and(agreed_delivery_date::date > created_at::date) {bulk}"
    ) == [[True] * 4]


def test_bulk_sales_orders_leave_the_foreign_keys_on(totesys):
    connection = totesys.connect()
    totesys_database.bulk_sales_orders(connection, 1)
    assert _column(connection, "SHOW session_replication_role") == ["origin"]


def test_reader_can_read_every_table_and_write_none(totesys):
    reader = totesys.connect("reader")
    for table in COLUMNS:
        assert _column(reader, f'SELECT count(*) FROM "{table}"')[0] > 0
        assert _column(reader, f"SELECT has_table_privilege('\"{table}\"', 'INSERT, UPDATE')") == [
            False
        ]
