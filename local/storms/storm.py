"""A storm of writers on two tables, and what a reader of ids made of it.

Knows nothing of how the reader works, so that the same storm can be let loose on any of them.
"""

from __future__ import annotations

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from threading import Event
from typing import TYPE_CHECKING

from local.storms.writers import Writer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pg8000.native import Connection

WRITERS = 8


@dataclass(frozen=True)
class Read:
    """What one read of a table delivered: new ids, in order, and how it got them."""

    ids: Sequence[int]
    waited_seconds: float = 0.0
    held_back_rows: int = 0


@dataclass(frozen=True)
class Figures:
    """How a storm went on one table.

    Attributes:
        rows: what the table holds in the end.
        late_rows: those of them that could be seen only after a row with a higher id: what
            `id > the highest seen`, asked at every tick, never returned.
        dead_ids: ids between the first and the last row that no row has.
        reads: how often the reader was called.
        held_back_reads: how many of them left rows to the next one because of an open writer.
        longest_wait_seconds: of a single read.
        lost: rows that were not delivered.
        twice: rows that were delivered again.
        descents: ids that were delivered after a higher one.
        strangers: delivered ids that the table does not hold: rows that were rolled back.
    """

    rows: int
    late_rows: int
    dead_ids: int
    reads: int
    held_back_reads: int
    longest_wait_seconds: float
    lost: int
    twice: int
    descents: int
    strangers: int

    @property
    def is_exact(self) -> bool:
        """Whether every row was delivered, once, in order, and nothing else."""
        return not (self.lost or self.twice or self.descents or self.strangers)


def storm(
    connect: Callable[[], Connection],
    readers: Mapping[str, Callable[[], Read]],
    *,
    seconds: float,
    tick_seconds: float,
    longest_seconds: float,
    seed: int = 1,
) -> tuple[dict[str, Figures], Counter[str]]:
    """Let the writers loose, call the readers all the while, and at the end until all is read.

    Args:
        connect: opens a session in a database with the tables of `writers.create_tables`, of a user
            who may write to them; the caller closes them.
        readers: by table; each returns what is new since its last call. Each has its own thread.
        seconds: how long writers begin new transactions.
        tick_seconds: the pause between two reads.
        longest_seconds: how long a transaction stays open, or prepared, at most.
        seed: of what the writers do; when they do it is up to the machine.

    Returns:
        The figures by table, and how often each way to write and to end was taken.
    """
    over = Event()
    observer = connect()
    watches = [_Watch(table, observer, read) for table, read in readers.items()]
    writers = [Writer(number, connect(), over, longest_seconds, seed) for number in range(WRITERS)]
    end = time.monotonic() + seconds
    with ThreadPoolExecutor(WRITERS + len(watches)) as pool:
        running = [pool.submit(writer.run) for writer in writers]
        reading = [pool.submit(watch.run, over, tick_seconds) for watch in watches]
        try:
            while time.monotonic() < end and not any(task.done() for task in running + reading):
                for watch in watches:
                    watch.look()
                over.wait(tick_seconds)
        finally:
            over.set()
    taken = sum((task.result() for task in running), Counter[str]())
    for task in reading:
        task.result()
    return {watch.table: watch.finish() for watch in watches}, taken


@dataclass
class _Watch:
    """Calls a reader, and looks on as a naive one would."""

    table: str
    observer: Connection
    read: Callable[[], Read]
    naive: list[int] = field(default_factory=lambda: [0])
    reads: list[Read] = field(default_factory=list)

    def run(self, over: Event, tick_seconds: float) -> None:
        while not over.wait(tick_seconds):
            self.reads.append(self.read())

    def look(self) -> None:
        self.naive += self._ids_above(self.naive[-1])

    def finish(self) -> Figures:
        self.reads.append(self.read())
        while self.reads[-1].ids:
            self.reads.append(self.read())
        self.look()
        rows = self._ids_above(0)
        delivered = [int(row_id) for read in self.reads for row_id in read.ids]
        return Figures(
            rows=len(rows),
            late_rows=len(set(rows) - set(self.naive)),
            dead_ids=rows[-1] - rows[0] + 1 - len(rows),
            reads=len(self.reads),
            held_back_reads=sum(read.held_back_rows > 0 for read in self.reads),
            longest_wait_seconds=round(max(read.waited_seconds for read in self.reads), 3),
            lost=len(set(rows) - set(delivered)),
            twice=len(delivered) - len(set(delivered)),
            descents=sum(a > b for a, b in pairwise(delivered)),
            strangers=len(set(delivered) - set(rows)),
        )

    def _ids_above(self, row_id: int) -> list[int]:
        name = f"{self.table}_id"
        found = self.observer.run(
            f"SELECT {name} FROM {self.table} WHERE {name} > {row_id} ORDER BY {name}"
        )
        return [row_id for [row_id] in found]
