"""Proves by value: a row that was not written since the mark must be as its last landed line.

Up to the mark that is done the change stream has every version (see `shared.snapshot`). So a row in
an older version was delivered as it is now, and no later line is another version of it. It is read
as it was landed, and its line must have the print of the last line that the inventory knows.

Batches that are new are proved the same night. Old ones follow in turn, as many each night as it
takes to prove all in so many days, if there is time. A batch with a row that differs is due again
the next night.
"""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from services.reconciliation.ids import NO_IDS
from services.reconciliation.inventory import NEVER
from services.reconciliation.source_ids import read_still_there
from shared.bucket import keys
from shared.json_reader import parse_line, split_members
from shared.prints import prints_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pg8000.native import Connection

    from services.reconciliation.ids import Ids
    from services.reconciliation.inventory import Shard, Summary
    from services.reconciliation.listing import Listed
    from services.reconciliation.store import Store
    from shared.bucket.bucket import Bucket
    from shared.personal import PersonalData
    from shared.prints import Prints
    from shared.snapshot import Mark
    from shared.tables import Table

_BATCH_ROWS = 50_000
# Of so many rows that differ it is looked up in which columns.
_LOOKED_UP = 10


class Proof(NamedTuple):
    """What was proved of a table.

    Attributes:
        rows: how many rows were compared.
        differing: the ids of those that differ from their last landed line, ascending.
        columns: in which columns some of them do.
        days_behind: for how many days a batch has waited beyond its turn; 0 if none has.
    """

    rows: int = 0
    differing: Ids = NO_IDS
    columns: Sequence[str] = ()
    days_behind: int = 0


class _Read(NamedTuple):
    """Rows as they were read, ascending by id."""

    ids: Ids
    lines: Sequence[bytes]


class ValueProof:
    """The proof of one table's values in one reconciliation; single use."""

    def __init__(
        self,
        table: Table,
        mark: Mark,
        batches: Listed,
        store: Store,
        bucket: Bucket,
        connection: Connection,
        personal: PersonalData,
    ) -> None:
        """Prepare it.

        Args:
            table: the table.
            mark: up to which its change stream was complete before that was listed.
            batches: its objects.
            store: its inventory, up to the last object of the change stream.
            bucket: the bucket.
            connection: a session of the database.
            personal: which columns of the table must not land as they are.
        """
        self._table, self._mark, self._batches = table, mark, batches
        self._personal = personal
        self._store, self._bucket, self._connection = store, bucket, connection
        self._rows, self._differing = 0, [NO_IDS]
        self._columns: set[str] = set()

    def run(self, today: int, days: int, is_time_left: Callable[[], bool]) -> Proof:
        """Prove what is due, and what else is to be proved today.

        Args:
            today: the day, as `date.toordinal` counts.
            days: in how many days all is to be proved.
            is_time_left: asked before each read.

        Raises:
            SourceError, SourceUnavailableError: see `read_old_rows`.
            LandingError, LandingUnavailableError: see `Bucket`.
        """
        shards = {each.above: each for each in self._store.inventory.shards}
        quota = ceil(sum(each.held for each in shards.values()) / days)
        for summary in sorted(shards.values(), key=lambda each: each.due):
            if not is_time_left() or (summary.due > today and self._rows >= quota):
                break
            shards[summary.above] = self._prove(summary, today, days, quota, is_time_left)
        self._store.save(replace(self._store.inventory, shards=tuple(shards.values())))
        first = min((each.due for each in shards.values()), default=NEVER)
        differing = np.sort(np.concatenate(self._differing))
        return Proof(self._rows, differing, sorted(self._columns), max(0, today - first))

    def _prove(
        self,
        summary: Summary,
        today: int,
        days: int,
        quota: int,
        is_time_left: Callable[[], bool],
    ) -> Summary:
        """Prove batches of a shard; return its summary."""
        shard = self._store.get_shard(summary)
        batches = shard.proved
        chosen = _chosen(shard, today, quota - self._rows)
        known = shard.last_lines
        is_done = np.zeros(len(batches.starts), bool)
        for start, end in _ranges(batches.starts[chosen], batches.ends[chosen]):
            reached = self._prove_range(shard, known, start, end, is_time_left)
            is_done |= (batches.starts >= start) & (batches.ends <= reached)
        differing = np.sort(np.concatenate(self._differing))
        first = np.searchsorted(differing, batches.starts, side="right")
        behind = np.searchsorted(differing, batches.ends, side="right")
        is_good = first == behind
        due = np.where(is_done, np.where(is_good, today + days, today + 1), batches.due)
        if np.array_equal(due, batches.due):
            return summary
        return self._store.put_shard(summary, replace(shard, proved=batches._replace(due=due)))

    def _prove_range(
        self,
        shard: Shard,
        known: tuple[Ids, Prints],
        above: int,
        up_to: int,
        is_time_left: Callable[[], bool],
    ) -> int:
        """Prove rows above an id up to another; return up to where there was time."""
        while above < up_to and is_time_left():
            read, above = self._read(above, up_to)
            self._rows += len(read.ids)
            found = _find_differing(read, *known)
            if len(found):
                self._keep(read, found, shard)
        return above

    def _read(self, above: int, up_to: int) -> tuple[_Read, int]:
        """Read the next old rows; return up to which id as well."""
        from shared.jsonlines import render  # imports pandas
        from shared.postgres.reader import read_old_rows

        batch = read_old_rows(
            self._table,
            above,
            up_to,
            self._mark,
            self._connection,
            _BATCH_ROWS,
            self._personal,
        )
        read = _Read(np.array(batch.ids, np.int64), render(batch.rows).body.split(b"\n")[:-1])
        return read, batch.last_id if batch.more else up_to

    def _keep(self, read: _Read, places: Ids, shard: Shard) -> None:
        """Keep rows that differ, but for those that share their id: whose line is known?"""
        ids = read.ids[places]
        there = read_still_there(self._table, ids, self._connection, None)
        distinct, times = np.unique(there, return_counts=True)
        places = places[np.isin(ids, distinct[times == 1])]
        for place in places[:_LOOKED_UP].tolist():
            self._columns.update(self._columns_of(int(read.ids[place]), read.lines[place], shard))
        self._differing.append(read.ids[places])

    def _columns_of(self, row_id: int, line: bytes, shard: Shard) -> Iterator[str]:
        """Yield the columns in which a row is not as its last landed line."""
        landed = self._landed_line(row_id, shard)
        if landed is None:
            return
        now, then = split_members(line), split_members(landed)
        yield from (name for name in {**now, **then} if now.get(name) != then.get(name))

    def _landed_line(self, row_id: int, shard: Shard) -> bytes | None:
        """Return the last landed line of a row; None if its object is gone."""
        said = np.flatnonzero(shard.said.ids == row_id)
        if len(said):
            key = keys.format_change_key(self._table, int(shard.said.numbers[said[0]]))
        else:
            key = self._batches.keys[int(np.searchsorted(self._batches.numbers, row_id))]
        with self._bucket.open(key) as found:
            lines = list(found.lines) if found else []
        of_row = [line for line in lines if parse_line(line).get(self._table.id_column) == row_id]
        return of_row[-1].rstrip(b"\n") if of_row else None


def _chosen(shard: Shard, today: int, wanted: int) -> np.ndarray[tuple[int], np.dtype[np.bool]]:
    """Return which batches to prove: those that are due, and as many rows as are wanted."""
    batches = shard.proved
    first = np.searchsorted(shard.ids, batches.starts, side="right")
    rows = np.searchsorted(shard.ids, batches.ends, side="right") - first
    order = np.argsort(batches.due, kind="stable")
    before = np.cumsum(rows[order]) - rows[order]
    chosen = np.zeros(len(order), bool)
    chosen[order] = (batches.due[order] <= today) | (before < wanted)
    return chosen


def _ranges(starts: Ids, ends: Ids) -> Iterator[tuple[int, int]]:
    """Yield the ranges that batches make up together.

    >>> [*_ranges(np.array([0, 5, 9]), np.array([5, 7, 12]))]
    [(0, 7), (9, 12)]
    """
    if not len(starts):
        return
    breaks = np.flatnonzero(starts[1:] != ends[:-1])
    first = [0, *(breaks + 1).tolist()]
    last = [*breaks.tolist(), len(ends) - 1]
    for begin, end in zip(first, last, strict=True):
        yield int(starts[begin]), int(ends[end])


def _find_differing(read: _Read, ids: Ids, prints: Prints) -> Ids:
    """Return the places of rows that are not as the last line of their id, if that is known."""
    _, first, times = np.unique(read.ids, return_index=True, return_counts=True)
    once = first[times == 1]
    known = once[np.isin(read.ids[once], ids)]
    expected = prints[np.searchsorted(ids, read.ids[known])]
    found = prints_of(read.lines)[known]
    places: Ids = known[found != expected]
    return places
