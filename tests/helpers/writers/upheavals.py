"""A session that deletes rows and brings them back, also in ways that are no change to a scan."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from pg8000.exceptions import DatabaseError

from local.storms.writers import PARTITIONED, TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence
    from threading import Event

    from pg8000.native import Connection

# Rows to come back are kept here; a partition of its own comes and goes, as others write to theirs.
SCHEMA = (
    *(f"CREATE TABLE kept_{table} (LIKE {table})" for table in TABLES),
    f"CREATE TABLE {PARTITIONED}_2 PARTITION OF {PARTITIONED} FOR VALUES IN (2)",
)

# Rows that others have locked are left to them, and those with a slot to the writers.
_SOME = (
    "{table}_id IN (SELECT {table}_id FROM {table} WHERE slot IS NULL"
    " ORDER BY random() LIMIT 5 FOR UPDATE SKIP LOCKED)"
)
_PARTITION = f"{PARTITIONED}_2"
# The transactions of each way.
_WAYS: dict[str, Sequence[Sequence[str]]] = {
    "deleted, then inserted again": (
        (
            "DELETE FROM kept_{table}",
            f"WITH gone AS (DELETE FROM {{table}} WHERE {_SOME} RETURNING *)"
            " INSERT INTO kept_{table} SELECT * FROM gone",
        ),
        ("INSERT INTO {table} SELECT * FROM kept_{table}",),
    ),
    "deleted and rolled back": ((f"DELETE FROM {{table}} WHERE {_SOME}", "SELECT 1 / 0"),),
    "an id in a gap": (
        (
            "INSERT INTO {table} ({table}_id, bucket, note) SELECT n, 0, 'gap'"
            " FROM generate_series(1, 99) n WHERE NOT EXISTS"
            " (SELECT FROM {table} WHERE {table}_id = n) ORDER BY random() LIMIT 2",
        ),
    ),
    "emptied and loaded again": (
        (
            "CREATE TEMPORARY TABLE saved ON COMMIT DROP AS SELECT * FROM {table}",
            "TRUNCATE {table}",
            "INSERT INTO {table} SELECT * FROM saved WHERE random() < 0.9",
        ),
    ),
    "a partition that goes and comes back": (
        (f"INSERT INTO {PARTITIONED} (bucket, note) VALUES (2, 'a'), (2, 'b'), (2, 'c')",),
        (f"ALTER TABLE {PARTITIONED} DETACH PARTITION {_PARTITION}",),
        (f"INSERT INTO {_PARTITION} (bucket, note) VALUES (2, 'meanwhile')",),
        (f"ALTER TABLE {PARTITIONED} ATTACH PARTITION {_PARTITION} FOR VALUES IN (2)",),
    ),
}


class Upheaval:
    """Turns tables upside down, in a session of its own, until it is told to stop."""

    def __init__(self, connection: Connection, over: Event, seed: int) -> None:
        """Prepare it; as a `Writer`."""
        self.connection, self.over = connection, over
        self.random = random.Random(f"{seed}-upheaval")
        self.taken = Counter[str]()
        # Nobody waits for us for long: whoever waits for a lock is in the way of all others.
        connection.run("SET lock_timeout = '100ms'")

    def run(self) -> Counter[str]:
        """Do it until it is over; return how often each way was taken, or did not get through."""
        while not self.over.wait(self.random.random() / 10):
            way, table = self.random.choice(list(_WAYS)), self.random.choice(TABLES)
            for transaction in _WAYS[way]:
                is_done = self._try([sql.format(table=table) for sql in transaction])
                self.taken[f"upheaval: {way}" if is_done else "upheaval: refused"] += 1
                self.over.wait(self.random.random() / 3)
        self._attach()
        return self.taken

    def _attach(self) -> None:
        sql = "SELECT relispartition FROM pg_class WHERE oid = CAST(:name AS regclass)"
        while self.connection.run(sql, name=_PARTITION) == [[False]]:
            self._try(_WAYS["a partition that goes and comes back"][-1])

    def _try(self, statements: Sequence[str]) -> bool:
        """Run a transaction; tell whether it got through."""
        self.connection.run("BEGIN")
        try:
            for sql in statements:
                self.connection.run(sql)
        except DatabaseError:
            self.connection.run("ROLLBACK")
            return False
        self.connection.run("COMMIT")
        return True
