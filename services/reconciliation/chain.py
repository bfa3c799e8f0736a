"""What has landed of a table up to a watermark: its chain of claims, in parts.

The claims below it say which objects must exist, and each claim begins where the previous one ends.
Those that the inventory has are not read again. Claims above it may have no objects yet.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np

from services.reconciliation.ids import NO_IDS, Ids
from services.reconciliation.inventory import Proved, Shard, Summary
from services.reconciliation.landed import Fault, Link, get_links, get_side_by_side
from services.reconciliation.listing import UnlistedError
from shared.errors import UnfinishedError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from services.reconciliation.store import Store
    from services.reconciliation.streams import Streams
    from shared.bucket.bucket import Bucket
    from shared.tables import Table

# A shard ends with the batch that reaches one of these.
_SHARD_ROWS = 1_000_000
_SHARD_BATCHES = 50_000


@dataclass(slots=True)
class Part:
    """A part of the chain, as it was found now.

    Attributes:
        summary: of the shard that has its sound batches.
        faulty: the batches that are not as they landed; they are read again each time.
        unclaimed: the keys of objects in its range that no claim names.
    """

    summary: Summary
    faulty: Sequence[Link] = ()
    unclaimed: Sequence[str] = ()

    def all_ids(self, shard: Shard) -> Ids:
        """Return the ids of all its rows, ascending, given its shard."""
        ids = np.concatenate([shard.ids, *(link.ids for link in self.faulty)])
        ids.sort()
        return ids

    def rows(self, shard: Shard) -> tuple[Ids, Ids]:
        """Return the ids of its rows that are not gone: that landed, and of the extras."""
        return replace(shard, ids=self.all_ids(shard)).rows


@dataclass(slots=True)
class _Collected:
    """Batches of a range that goes on: those that were proved earlier, and those read now."""

    summary: Summary
    known: Shard = field(default_factory=Shard)
    has_lost: bool = False
    read: list[Link] = field(default_factory=list)
    rows: int = 0

    def add(self, link: Link) -> None:
        self.read.append(link)
        self.rows += len(link.ids)
        self.summary = replace(self.summary, up_to=max(self.summary.up_to, link.up_to))

    @property
    def is_full(self) -> bool:
        batches = len(self.known.proved.starts) + len(self.read)
        return _is_full(self.rows + len(self.known.ids), batches)


class Chain:
    """The chain of a table's claims up to a watermark."""

    def __init__(
        self, table: Table, streams: Streams, bucket: Bucket, store: Store, today: int
    ) -> None:
        """Begin with what there is of a table, and what its inventory has.

        Args:
            table: the table.
            streams: what there is of it.
            bucket: the bucket.
            store: its inventory.
            today: the day by which the values of batches that are new are to be compared.
        """
        self._table, self._streams, self._today = table, streams, today
        self._bucket, self._store = bucket, store

    def parts(self, is_time_left: Callable[[], bool]) -> Iterator[Part]:
        """Yield the parts in the order of their ids; what is read is in the inventory's shards.

        Raises:
            LandingError, LandingUnavailableError: see `Bucket`.
            UnfinishedError: there is no time left; what was read by then was yielded.
            UnlistedError: a part of the inventory is lost, and not all was listed.
        """
        watermark = self._streams.watermark
        number = self._store.inventory.number
        shards = self._store.inventory.shards
        known = [each for each in shards if each.etag and each.up_to <= watermark]
        for summary in known[:-1]:
            yield self._seen_again(summary)
        end = known[-1].up_to if known else 0
        known_is_full = bool(known) and _is_full(known[-1].held, known[-1].batches)
        collected = _Collected(Summary(end, end, number=number))
        if known and end < watermark and not known_is_full:
            collected = self._collected_again(known[-1])
        elif known:
            yield self._seen_again(known[-1])
        for link in self._read(self._pairs(end, watermark)):
            collected.add(link)
            is_late = link.up_to < watermark and not is_time_left()
            if collected.is_full or is_late:
                yield self._part(collected)
                collected = _Collected(Summary(link.up_to, link.up_to, number=number))
            if is_late:
                raise UnfinishedError(
                    f"There was no time to read all of {self._table.name!r}: it was read up to "
                    f"{link.up_to} of {watermark}. The next call continues there."
                )
        if collected.summary.up_to > collected.summary.above:
            yield self._part(collected)
        if not watermark:  # nothing has landed, but there may be rows with ids below 1
            yield Part(Summary(0, 0, number=number))

    def _seen_again(self, summary: Summary) -> Part:
        batches = self._streams.batches.between(summary.first_end, summary.up_to)
        claims = self._streams.claims.between(summary.above, summary.up_to - 1)
        is_same = (batches.total + claims.total) % 2**64 == summary.prints
        if (is_same or not self._streams.is_whole) and self._store.has(summary):
            return Part(summary)
        return self._part(self._collected_again(summary))

    def _collected_again(self, summary: Summary) -> _Collected:
        """Return a known range with those batches read again that the inventory does not have."""
        if self._store.has(summary):
            shard = self._store.get_shard(summary)
        else:  # all that the change stream said is read again, too
            shard, summary = Shard(), replace(summary, number=0)
        if len(shard.proved.starts) != summary.batches and not self._streams.is_whole:
            raise UnlistedError(self._table.name)
        kept = self._still_proved(shard.proved)
        known = replace(shard, proved=shard.proved.chosen(kept))
        if not kept.all():
            within = _within(shard.ids, known.proved)
            known = replace(known, ids=shard.ids[within], prints=shard.prints[within])
        has_lost = not kept.all() or len(shard.proved.starts) != summary.batches
        collected = _Collected(summary, known, has_lost)
        ends = known.proved.ends.tolist()
        proved = set(zip(known.proved.starts.tolist(), ends, strict=True))
        pairs = self._pairs(summary.above, summary.up_to, ends)
        for link in self._read([pair for pair in pairs if pair not in proved]):
            collected.add(link)
        return collected

    def _still_proved(self, proved: Proved) -> np.ndarray[tuple[int], np.dtype[np.bool]]:
        """Return which batches have the claims and objects that they had, and no other claim."""
        if not self._streams.is_whole:
            return np.full(len(proved.starts), True)
        first = np.searchsorted(self._streams.claims.numbers, proved.starts, side="right")
        behind = np.searchsorted(self._streams.claims.numbers, proved.ends)
        kept: np.ndarray[tuple[int], np.dtype[np.bool]] = (
            np.isin(proved.claims, self._streams.claims.prints)
            & np.isin(proved.objects, self._streams.batches.prints)
            & (first == behind)
        )
        return kept

    def _pairs(self, above: int, up_to: int, ends: Sequence[int] = ()) -> list[tuple[int, int]]:
        """Return where the batches of a range begin and end, by its claims and known ends."""
        if above >= up_to:
            return []
        starts = self._streams.claims.between(above, up_to - 1).numbers.tolist()
        return [*pairwise(sorted({above, *starts, *ends, up_to}))]

    def _read(self, pairs: Sequence[tuple[int, int]]) -> Iterator[Link]:
        def get(pair: tuple[int, int]) -> list[Link]:
            return get_links(self._table, *pair, self._bucket)

        for links in get_side_by_side(get, pairs):
            yield from links

    def _part(self, collected: _Collected) -> Part:
        """Write the shard of a range, if it has changed, and return what was found."""
        sound = [link for link in collected.read if not link.faults]
        faulty = [link for link in collected.read if link.faults]
        known, summary = collected.known, collected.summary
        ids = np.concatenate([known.ids, *(link.ids for link in sound)])
        prints = np.concatenate([known.prints, *(link.prints for link in sound)])
        order = np.argsort(ids, kind="stable")
        proved = known.proved.joined(self._proved(sound, summary))
        shard = replace(known, proved=proved, ids=ids[order], prints=prints[order])
        if sound or collected.has_lost or not summary.etag:
            summary = self._store.put_shard(summary, shard)
        return Part(summary, faulty, self._unclaimed(summary, shard, faulty))

    def _proved(self, links: Sequence[Link], summary: Summary) -> Proved:
        here = self._streams.batches.between(summary.first_end, summary.up_to)
        batches = dict(zip(here.keys, here.prints.tolist(), strict=True))
        below = self._streams.claims.between(summary.above, summary.up_to - 1)
        claims = dict(zip(below.numbers.tolist(), below.prints.tolist(), strict=True))
        return Proved(
            np.array([link.above for link in links], np.int64),
            np.array([link.up_to for link in links], np.int64),
            np.array([claims.get(link.above, 0) for link in links], np.uint64),
            np.array([batches.get(link.key or "", 0) for link in links], np.uint64),
            np.full(len(links), self._today),
        )

    def _unclaimed(self, summary: Summary, shard: Shard, faulty: Sequence[Link]) -> list[str]:
        here = self._streams.batches.between(summary.first_end, summary.up_to)
        unclaimed = ~np.isin(here.prints, shard.proved.objects)
        named = {link.key for link in faulty}
        found = (here.keys[place] for place in np.flatnonzero(unclaimed).tolist())
        return [key for key in found if key not in named]


def faults_of(part: Part) -> Iterator[Fault]:
    """Yield what is wrong in a part of the chain."""
    for link in part.faulty:
        yield from link.faults
    for key in part.unclaimed:
        yield Fault(key, "no claim names it")


def _is_full(rows: int, batches: int) -> bool:
    return rows >= _SHARD_ROWS or batches >= _SHARD_BATCHES


def _within(ids: Ids, proved: Proved) -> Ids:
    """Return the places of the ids that are in one of the batches."""
    first = np.searchsorted(ids, proved.starts, side="right")
    behind = np.searchsorted(ids, proved.ends, side="right")
    return np.concatenate([NO_IDS, *map(np.arange, first.tolist(), behind.tolist())])
