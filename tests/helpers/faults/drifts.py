"""What can be wrong with a Totesys, to be put into a real one, and what is to be said of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pg8000.native import identifier

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pg8000.native import Connection

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
    Drift("address", "district", "DROP district",
          "column missing", "text", "no such column", COPIED),
    Drift("design", "mood", "ADD mood jsonb", "column added", "no such column", "jsonb", COPIED),
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


class Damage:
    """Changes to a Totesys, through a superuser's session without foreign keys."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        for index in (
            "payment_transaction_id_key",
            "transaction_sales_order_id_key",
            "transaction_purchase_order_id_key",
        ):
            connection.run(f"DROP INDEX {index}")
        connection.run("SET session_replication_role = replica")
        for enum in ("PaymentTypeName", "TransactionType"):
            connection.run(f"ALTER TYPE {identifier(enum)} ADD VALUE 'GIFT'")

    def copy_rows(self, table: str) -> list[int]:
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

    def set(self, table: str, column: str, row_id: int, value: str | None) -> None:
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

    def break_values(self, wave: int) -> dict[tuple[str, str], int]:
        """Insert rows that hold the wave's `BROKEN` values; return the id of each value's row."""
        broken = values_of(wave)
        last = {table: self.copy_rows(table)[-1] for table in {table for table, _ in broken}}
        for (table, column), (value, _) in broken.items():
            self.set(table, column, last[table], value)
        return {(table, column): last[table] for table, column in broken}

    def mend(self, table: str, column: str, row_id: int) -> None:
        """Put a good value where a broken one was: changed rows are looked at again."""
        self.connection.run(
            f"UPDATE {identifier(table)} SET {column} = good.{column}"
            f" FROM (SELECT * FROM {identifier(table)} ORDER BY {table}_id LIMIT 1) AS good"
            f" WHERE {identifier(table)}.{table}_id = {row_id}"
        )


def values_of(wave: int) -> dict[tuple[str, str], tuple[str, str]]:
    """Return the values of a wave, and what each is said to be, by table and column."""
    return {place: values[wave] for place, values in BROKEN.items() if wave < len(values)}


def said(lines: Iterable[Mapping[str, Any]]) -> list[list[Any]]:
    """Return what lines say, sorted by table and column."""
    fields = ("table", "column", "kind", "found", "rows", "first_ids")
    return sorted([line[field] for field in fields] for line in lines)
