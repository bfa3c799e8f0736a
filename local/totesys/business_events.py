"""Business events: an order, its transaction and its payment, written in one transaction.

All three have the event's created_at. Their ids come from the tables' sequences, by the INSERT.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from string import ascii_uppercase, digits
from typing import TYPE_CHECKING

from pg8000.native import identifier

from local.totesys.master_data import Row, stamps

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime
    from random import Random

    from pg8000.native import Connection

type References = dict[str, list[int]]

_REFERENCES = {
    "design_id": "design",
    "staff_id": "staff",
    "counterparty_id": "counterparty",
    "currency_id": "currency",
    "agreed_delivery_location_id": "address",
}


@dataclass(frozen=True)
class Event:
    """A business event before it is written: rows without ids."""

    is_sale: bool
    order: Row
    payment: Row
    stamps: Row

    @property
    def order_table(self) -> str:
        """The table of the order."""
        return "sales_order" if self.is_sale else "purchase_order"

    def transaction(self, order_id: int) -> Row:
        """Return the row that links the payment to the order."""
        return self.stamps | {
            "transaction_type": "SALE" if self.is_sale else "PURCHASE",
            "sales_order_id": order_id if self.is_sale else None,
            "purchase_order_id": None if self.is_sale else order_id,
        }


def read_references(connection: Connection) -> References:
    """Return the ids that orders may refer to, by the referring column."""
    return {
        column: [row[0] for row in connection.run(f"SELECT {table}_id FROM {table} ORDER BY 1")]
        for column, table in _REFERENCES.items()
    }


def make_event(rng: Random, references: References, moment: datetime) -> Event:
    """Invent an event with amounts and dates in the ranges of real ones."""
    chosen = {column: rng.choice(ids) for column, ids in references.items()}
    design_id = chosen.pop("design_id")
    is_sale = rng.random() < 0.7
    goods, amount = _sold(rng, design_id) if is_sale else _bought(rng)
    due = _later_date(rng, moment)
    dates: Row = {
        "agreed_delivery_date": _later_date(rng, moment),
        "agreed_payment_date": due,
    }
    payment: Row = {
        "counterparty_id": chosen["counterparty_id"],
        "payment_amount": amount,
        "currency_id": chosen["currency_id"],
        "payment_type_id": 1 if is_sale else 3,
        "paid": False,
        "payment_date": due,
        "company_ac_number": rng.randint(10_000_000, 99_999_999),
        "counterparty_ac_number": rng.randint(10_000_000, 99_999_999),
    }
    stamped = stamps(moment)
    return Event(is_sale, stamped | goods | chosen | dates, stamped | payment, stamped)


def insert_events(connection: Connection, events: Sequence[Event]) -> None:
    """Insert events with one statement for each table."""
    order_ids = {
        table: iter(insert(connection, table, [e.order for e in events if e.order_table == table]))
        for table in ("sales_order", "purchase_order")
    }
    transactions = [event.transaction(next(order_ids[event.order_table])) for event in events]
    transaction_ids = insert(connection, "transaction", transactions)
    payments = [
        event.payment | {"transaction_id": transaction_id}
        for event, transaction_id in zip(events, transaction_ids, strict=True)
    ]
    insert(connection, "payment", payments)


def insert(connection: Connection, table: str, rows: Sequence[Row]) -> list[int]:
    """Insert rows that have the same columns; return the ids they were given."""
    if not rows:
        return []
    columns = ", ".join(map(identifier, rows[0]))
    inserted: Iterable[list[int]] = connection.run(
        f"INSERT INTO {identifier(table)} ({columns}) "
        f"SELECT {columns} FROM json_populate_recordset(NULL::{identifier(table)}, :rows) "
        f"RETURNING {identifier(table + '_id')}",
        rows=json.dumps(rows),
    )
    return [row[0] for row in inserted]


def _sold(rng: Random, design_id: int) -> tuple[Row, str]:
    units, cents = rng.randint(1001, 99_973), rng.randint(200, 400)
    goods: Row = {"design_id": design_id, "units_sold": units, "unit_price": _money(cents)}
    return goods, _money(units * cents)


def _bought(rng: Random) -> tuple[Row, str]:
    quantity, cents = rng.randint(1, 999), rng.randint(332, 99_907)
    goods: Row = {
        "item_code": "".join(rng.choices(ascii_uppercase + digits, k=7)),
        "item_quantity": quantity,
        "item_unit_price": _money(cents),
    }
    return goods, _money(quantity * cents)


def _money(cents: int) -> str:
    return str(Decimal(cents).scaleb(-2))


def _later_date(rng: Random, moment: datetime) -> str:
    return (moment + timedelta(days=rng.randint(1, 6))).date().isoformat()
