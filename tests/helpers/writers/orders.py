"""Sessions that insert, update and delete sales orders, in transactions that stay open."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from threading import Event

    from pg8000.native import Connection

_COLUMNS = (
    "created_at, last_updated, design_id, staff_id, counterparty_id, units_sold, unit_price, "
    "currency_id, agreed_delivery_date, agreed_payment_date, agreed_delivery_location_id"
)
_SOME = "sales_order_id BETWEEN {row_id} AND {row_id} + {some}"
_WAYS = {
    "insert": f"INSERT INTO sales_order ({_COLUMNS}) SELECT {_COLUMNS} FROM sales_order"
    " WHERE sales_order_id > {row_id} ORDER BY sales_order_id LIMIT {some}",
    "update": f"UPDATE sales_order SET units_sold = units_sold + 1 WHERE {_SOME}",
    # What others refer to stays; rows that were added in bulk, nobody does.
    "delete": f"DELETE FROM sales_order WHERE {_SOME} AND NOT EXISTS (SELECT FROM transaction AS t"
    " WHERE t.sales_order_id = sales_order.sales_order_id)",
}
_ENDS = {"COMMIT": 4, "ROLLBACK": 1}


def change_orders(
    number: int, way: str, connection: Connection, over: Event, longest_seconds: float
) -> Counter[str]:
    """Change sales orders in one way until it is over; return how often each end was taken.

    Args:
        number: of the session; two sessions change the same rows in the same order, so that they
            wait for each other and never for both.
        way: `insert`, `update` or `delete`.
        connection: its session.
        over: tells it to stop.
        longest_seconds: how long a transaction stays open at most.
    """
    rng, taken = random.Random(number), Counter[str]()
    while not over.is_set():
        [[highest]] = connection.run("SELECT max(sales_order_id) FROM sales_order")
        row_id, some = rng.randrange(1, highest), rng.randint(1, 5)
        connection.run("BEGIN")
        connection.run(_WAYS[way].format(row_id=row_id, some=some))
        over.wait(longest_seconds * rng.random() ** 8)
        [end] = rng.choices(list(_ENDS), list(_ENDS.values()))
        connection.run(end)
        taken[f"{way}: {end}"] += 1
    return taken
