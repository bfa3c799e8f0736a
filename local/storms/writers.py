"""Writers that insert in every way there is, keep transactions open, and end them in every way."""

from __future__ import annotations

import random
import time
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from threading import Event

    from pg8000.native import Connection

PLAIN, PARTITIONED = TABLES = ("storm", "storm_parts")

_COLUMNS = "bucket integer NOT NULL, slot integer, note text NOT NULL, UNIQUE (bucket, slot)"
_SCHEMA = f"""
CREATE TABLE storm (storm_id serial PRIMARY KEY, {_COLUMNS});
CREATE TABLE storm_parts (
    storm_parts_id bigserial, {_COLUMNS}, PRIMARY KEY (storm_parts_id, bucket)
) PARTITION BY LIST (bucket);
CREATE TABLE storm_parts_0 PARTITION OF storm_parts FOR VALUES IN (0);
CREATE TABLE storm_parts_1 PARTITION OF storm_parts FOR VALUES IN (1);
"""

_ROW = "INSERT INTO {target} (bucket, note) VALUES ({bucket}, 'row')"
_WAYS = {
    "row": _ROW,
    "rows": _ROW + ", ({bucket}, 'row'), ({bucket}, 'row')",
    "select": "INSERT INTO {target} (bucket, note)"
    " SELECT {bucket}, 'select' FROM generate_series(1, {some})",
    "savepoint released": "SAVEPOINT s; " + _ROW + "; RELEASE s",
    "savepoint rolled back": "SAVEPOINT s; " + _ROW + "; ROLLBACK TO s; " + _ROW,
    "copy": "COPY {target} (bucket, note) FROM STDIN",
    "conflict, nothing": "INSERT INTO {target} (bucket, slot, note)"
    " VALUES ({bucket}, {slot}, 'slot') ON CONFLICT DO NOTHING",
    "conflict, update": "INSERT INTO {target} (bucket, slot, note)"
    " VALUES ({bucket}, {slot}, 'slot') ON CONFLICT (bucket, slot) DO UPDATE SET note = 'updated'",
}
# Whoever prepared a transaction that holds a slot would wait for itself at the next conflict.
_WAYS_TO_PREPARE = [way for way in _WAYS if not way.startswith("conflict")]
_ENDS = {"COMMIT": 6, "ROLLBACK": 2, "PREPARE TRANSACTION": 2}


def create_tables(connection: Connection) -> None:
    """Create the tables that the writers write to."""
    connection.run(_SCHEMA)


class Writer:
    """Runs one transaction after the other, in a session of its own, until it is told to stop."""

    def __init__(
        self, number: int, connection: Connection, over: Event, longest_seconds: float, seed: int
    ) -> None:
        """Prepare a writer.

        Args:
            number: tells it from the others.
            connection: its session.
            over: tells it to stop.
            longest_seconds: how long it keeps a transaction open, or prepared, at most.
            seed: of what it does.
        """
        self.number = number
        self.connection = connection
        self.over = over
        self.longest_seconds = longest_seconds
        self.random = random.Random(f"{seed}-{number}")
        self.prepared: list[tuple[float, str]] = []
        self.taken = Counter[str]()

    def run(self) -> Counter[str]:
        """Write until it is over; return how often each way to write and to end was taken."""
        while not self.over.is_set():
            self._transaction()
            self._end_prepared(time.monotonic())
        self._end_prepared(float("inf"))
        return self.taken

    def _transaction(self) -> None:
        [end] = self.random.choices(list(_ENDS), list(_ENDS.values()))
        ways = _WAYS_TO_PREPARE if end == "PREPARE TRANSACTION" else list(_WAYS)
        self.connection.run("BEGIN")
        for _ in range(self.random.randint(1, 4)):
            self._write(self.random.choice(ways))
            self._stay()
        self.taken[end] += 1
        if end == "PREPARE TRANSACTION":
            name = f"writer {self.number}, {self.taken[end]}"
            self.prepared.append((time.monotonic() + self._some_seconds(), name))
            end = f"{end} '{name}'"
        self.connection.run(end)

    def _write(self, way: str) -> None:
        self.taken[way] += 1
        bucket = self.number % 2
        # A leaf takes rows through its parent and on its own; all slots of a writer are its own,
        # or two of them might wait for each other.
        target = self.random.choice([PLAIN, PLAIN, PARTITIONED, f"{PARTITIONED}_{bucket}"])
        slot = 100 * self.number + self.random.randrange(10)
        some = self.random.randint(2, 9)
        sql = _WAYS[way].format(target=target, bucket=bucket, slot=slot, some=some)
        self.connection.run(sql, stream=self._lines(bucket, some) if way == "copy" else None)

    def _lines(self, bucket: int, count: int) -> Iterator[str]:
        """Yield the rows of a COPY: all have their ids long before the first is written."""
        for _ in range(count):
            yield f"{bucket}\tcopy\n"
            self._stay()

    def _stay(self) -> None:
        """Stay open for a moment, now and then for long; not for long when the storm is over."""
        self.over.wait(self._some_seconds())

    def _some_seconds(self) -> float:
        return self.longest_seconds * float(self.random.random() ** 40)

    def _end_prepared(self, before: float) -> None:
        """Commit or roll back the prepared transactions that are due."""
        due = [name for moment, name in self.prepared if moment < before]
        self.prepared = [(moment, name) for moment, name in self.prepared if moment >= before]
        for name in due:
            end = self.random.choice(["COMMIT", "ROLLBACK"])
            self.connection.run(f"{end} PREPARED '{name}'")
            self.taken[f"{end} PREPARED"] += 1
