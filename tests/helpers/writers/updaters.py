"""Sessions that change rows in every way there is, beside the `writers` that insert them."""

from __future__ import annotations

import random
from collections import Counter
from typing import TYPE_CHECKING

from local.storms.writers import PARTITIONED, PLAIN, TABLES

if TYPE_CHECKING:
    from threading import Event

    from pg8000.native import Connection

UPDATERS = 4

# Rows with a slot are left to the writers, or one of them and one of us might wait for each other.
_MINE = "{table}_id % {updaters} = {number} AND slot IS NULL"
_CHOICE = "{table}_id IN (SELECT {table}_id FROM {table} WHERE " + _MINE
_SOME = _CHOICE + " ORDER BY random() LIMIT 3)"
_ONE = _CHOICE + " ORDER BY random() LIMIT 1)"
_UPDATE = "UPDATE {table} SET note = note || '.' WHERE " + _SOME
_WAYS = {
    "update": _UPDATE,
    "twice": _UPDATE + "; " + _UPDATE,
    "no-op": "UPDATE {table} SET note = note WHERE " + _SOME,
    "savepoint released": "SAVEPOINT u; " + _UPDATE + "; RELEASE u",
    "savepoint rolled back": "SAVEPOINT u; " + _UPDATE + "; ROLLBACK TO u; " + _UPDATE,
    "nested": "SAVEPOINT a; SAVEPOINT b; " + _UPDATE + "; RELEASE b; SAVEPOINT c; " + _UPDATE,
    "lock": "SELECT FROM {table} WHERE " + _SOME + " FOR UPDATE",
    "lock, then update": "SELECT FROM {table} WHERE " + _MINE + " FOR NO KEY UPDATE; " + _UPDATE,
    "delete": "DELETE FROM {table} WHERE " + _ONE,
    "delete and put in again": "WITH gone AS (DELETE FROM {table} WHERE " + _SOME + " RETURNING *)"
    " INSERT INTO {table} SELECT * FROM gone",
}
_ENDS = {"COMMIT": 7, "ROLLBACK": 2}


class Updater:
    """Runs one transaction after the other, in a session of its own, until it is told to stop."""

    def __init__(
        self, number: int, connection: Connection, over: Event, longest_seconds: float, seed: int
    ) -> None:
        """Prepare an updater; as a `Writer`."""
        self.number = number
        self.connection = connection
        self.over = over
        self.longest_seconds = longest_seconds
        self.random = random.Random(f"{seed}-updater-{number}")
        self.taken = Counter[str]()

    def run(self) -> Counter[str]:
        """Update until it is over; return how often each way and end was taken."""
        while not self.over.is_set():
            self._transaction()
        return self.taken

    def _transaction(self) -> None:
        [end] = self.random.choices(list(_ENDS), list(_ENDS.values()))
        self.connection.run("BEGIN")
        for _ in range(self.random.randint(1, 4)):
            way = self.random.choice(list(_WAYS))
            table = self.random.choice([PLAIN, PARTITIONED])
            self.connection.run(
                _WAYS[way].format(table=table, number=self.number, updaters=UPDATERS)
            )
            self.taken[f"update: {way}"] += 1
            self.over.wait(self.longest_seconds * float(self.random.random() ** 30))
        self.taken[f"update: {end}"] += 1
        self.connection.run(end)


def add_restless_rows(connection: Connection) -> None:
    """Add the rows of `update_again_and_again`, which nobody else touches, to the tables."""
    for table in TABLES:
        connection.run(f"INSERT INTO {table} (bucket, slot, note) VALUES (0, -1, 'restless')")


def update_again_and_again(connection: Connection, over: Event) -> Counter[str]:
    """Update a row of each table every 50 ms; return how often."""
    taken = Counter[str]()
    while not over.wait(0.05):
        for table in TABLES:
            connection.run(f"UPDATE {table} SET note = 'restless' WHERE note = 'restless'")
        taken["update: restless"] += 1
    return taken
