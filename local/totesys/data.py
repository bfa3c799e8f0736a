"""A Totesys database of invented data: the real schema, and rows as odd as real ones."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import datetime, timedelta
from itertools import batched
from random import Random
from typing import TYPE_CHECKING, Literal

from local.totesys.added_tables import SCHEMA, create_added_tables, seed_added_tables
from local.totesys.business_events import insert, insert_events, make_event, read_references
from local.totesys.master_data import master_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pg8000.native import Connection

_MIGRATION = """
INSERT INTO _prisma_migrations (id, checksum, finished_at, migration_name, applied_steps_count)
VALUES ('5f0c8a52-2f4b-4a6e-9a55-0d2c6a1f7b10', repeat('c0de', 16), now(), '20221103142000_init', 1)
"""

# On the morning of the payment date, but never at a weekend: many payments stay unpaid.
_PAY_WHAT_IS_DUE = """
UPDATE payment
SET paid = true,
    last_updated = payment_date::date + time '07:55:10'
                   + payment_id % 2000 * interval '1 millisecond'
WHERE extract(isodow FROM payment_date::date) < 6
  AND payment_date::date <= (SELECT max(created_at) FROM payment)
"""

_BULK = """
INSERT INTO sales_order (
    created_at, last_updated, design_id, staff_id, counterparty_id, units_sold, unit_price,
    currency_id, agreed_delivery_date, agreed_payment_date, agreed_delivery_location_id
)
SELECT
    moment, moment, random(1, designs), random(1, staff), random(1, counterparties),
    random(1001, 99973), random(2.00, 4.00), random(1, currencies),
    (moment::date + random(1, 6))::text, (moment::date + random(1, 6))::text, random(1, addresses)
FROM
    (SELECT max(design_id) AS designs FROM design),
    (SELECT max(staff_id) AS staff FROM staff),
    (SELECT max(counterparty_id) AS counterparties FROM counterparty),
    (SELECT max(currency_id) AS currencies FROM currency),
    (SELECT max(address_id) AS addresses FROM address),
    generate_series(1, CAST(:rows AS integer)) AS number,
    LATERAL (
        SELECT timestamp(3) '2022-11-03 14:20:52.186' + number * interval '61.237 s' AS moment
    )
"""


def create(connection: Connection) -> None:
    """Create the schema in an empty database."""
    connection.run(SCHEMA.read_text())
    create_added_tables(connection)


def seed(connection: Connection, events: int = 2000, seed: int = 1) -> None:
    """Fill an empty schema: the small tables, and a number of business events.

    The same arguments give the same rows. A transaction is rolled back after every 100 events,
    which leaves gaps in the ids. Payments that are due are paid.
    """
    rng = Random(seed)
    connection.run(_MIGRATION)
    for table, rows in master_rows(rng).items():
        insert(connection, table, rows)
    references = read_references(connection)
    for moments in batched(_moments(rng, events), 100, strict=False):
        batch = [make_event(rng, references, moment) for moment in moments]
        insert_events(connection, batch)
        with _transaction(connection, end="ROLLBACK"):
            insert_events(connection, batch[:8])
    connection.run(_PAY_WHAT_IS_DUE)
    seed_added_tables(connection)


def add_events(connection: Connection, count: int, seed: int = 2) -> None:
    """Add business events that happen now, each in its own transaction."""
    rng = Random(seed)
    references = read_references(connection)
    for _ in range(count):
        with _transaction(connection):
            ((now,),) = connection.run("SELECT LOCALTIMESTAMP(3)")
            insert_events(connection, [make_event(rng, references, now)])


def bulk_sales_orders(connection: Connection, rows: int) -> None:
    """Add many sales orders, one a minute; for benchmarks.

    Needs a seeded database, and a superuser: the foreign keys, which hold, are not checked.
    """
    with _transaction(connection):
        connection.run("SET LOCAL session_replication_role = replica")
        connection.run("SELECT setseed(0.5)")
        connection.run(_BULK, rows=rows)


@contextmanager
def _transaction(
    connection: Connection, end: Literal["COMMIT", "ROLLBACK"] = "COMMIT"
) -> Iterator[None]:
    connection.run("BEGIN")
    try:
        yield
    except BaseException:
        connection.run("ROLLBACK")
        raise
    connection.run(end)


def _moments(rng: Random, count: int) -> Iterator[datetime]:
    """Yield when events happened: ten at once at first, then at seconds 9 and 10 in office hours.

    Not ascending within a second; now and then exactly on a second, without milliseconds.
    """
    minute = datetime(2022, 11, 3, 14, 20)
    for number in range(count):
        first = number < 10
        if not first:
            minute = _next_minute(rng, minute)
        moment = minute.replace(second=52 if first else rng.choice((9, 9, 9, 10)))
        milliseconds = 0 if number % 97 == 5 else rng.randint(1, 999)
        yield moment + timedelta(milliseconds=milliseconds)


def _next_minute(rng: Random, minute: datetime) -> datetime:
    minute += timedelta(minutes=rng.choice((0, 1, 5, 10, 20, 30, 60)))
    while minute.weekday() >= 5 or minute.hour >= 18:
        minute = (minute + timedelta(days=1)).replace(hour=8)
    return minute
