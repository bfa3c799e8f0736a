"""What the change stream says of ids: which only it holds, and which are gone.

Only the change stream holds rows with explicit ids below the watermark. A row is gone if its last
word there is a tombstone. Each object is read once, and what it adds is kept in the inventory. If
one is deleted or altered, all are read again.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from services.reconciliation.contents import get_contents
from services.reconciliation.ids import NO_IDS, Ids
from services.reconciliation.inventory import NOTHING_SAID, Said
from services.reconciliation.landed import get_side_by_side
from services.reconciliation.listing import UnlistedError
from shared.contracts.contract import load
from shared.errors import UnfinishedError
from shared.prints import last_places
from shared.tables import TOMBSTONE

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from services.reconciliation.chain import Part
    from services.reconciliation.contents import Contents
    from services.reconciliation.inventory import Summary
    from services.reconciliation.store import Store
    from services.reconciliation.streams import Changes
    from shared.bucket.bucket import Bucket
    from shared.tables import Table

# So many ids are read before they are sorted into the shards.
_HELD_IDS = 1_000_000


class _Words(NamedTuple):
    """What was said of ids, in the order of the stream.

    Attributes:
        said: the lines; the print of a tombstone is 0.
        is_gone: which of them are tombstones.
    """

    said: Said
    is_gone: np.ndarray[tuple[int], np.dtype[np.bool]]


@dataclass(slots=True)
class _Held:
    """What was said in the change objects that were read, in their order."""

    words: list[_Words] = field(default_factory=lambda: [_Words(NOTHING_SAID, np.empty(0, bool))])
    count: int = 0

    def add(self, contents: Contents, number: int) -> None:
        ids = np.concatenate((contents.ids, contents.gone))
        prints = np.concatenate((contents.prints, np.zeros(len(contents.gone), np.uint64)))
        is_gone = np.arange(len(ids)) >= len(contents.ids)
        self.words.append(_Words(Said(ids, np.full(len(ids), number), prints), is_gone))
        self.count += len(ids)

    def within(self, summary: Summary) -> _Words:
        """Return the last words on the ids in a shard's range that the shard has not seen."""
        said = Said._make(
            map(np.concatenate, zip(*(each.said for each in self.words), strict=True))
        )
        here = (said.ids > summary.lowest) & (said.ids <= summary.up_to)
        here &= said.numbers > summary.number
        is_gone = np.concatenate([each.is_gone for each in self.words])[here]
        said = said.chosen(here)
        last = last_places(said.ids)
        return _Words(said.chosen(last), is_gone[last])


def read_changes(
    parts: Sequence[Part],
    changes: Changes,
    table: Table,
    bucket: Bucket,
    store: Store,
    is_time_left: Callable[[], bool],
) -> None:
    """Bring the extras and the gone of all parts up to the last object of the change stream.

    Args:
        parts: the whole chain; their summaries are replaced.
        changes: the change stream.
        table: the table.
        bucket: the bucket.
        store: the inventory.
        is_time_left: whether there is time to read on.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
        UnfinishedError: there is no time left; what was read by then is in the inventory.
        UnlistedError: objects are to be read that were not listed.
    """
    is_known = changes.total(store.inventory.number) == store.inventory.changes
    for part in () if is_known else parts:
        part.summary = replace(part.summary, number=0)
        if part.summary.etag:
            _put(part, NOTHING_SAID, NO_IDS, store)
    first = min((part.summary.number for part in parts), default=0)
    if first < changes.above:
        raise UnlistedError(table.name)
    newest = changes.number
    wanted = changes.listed.between(first + 1, newest)

    # As for `read_new`: rows of such a table can't be told from tombstones.
    may_delete = TOMBSTONE not in (load(table) or {})

    def get(key: str) -> Contents:
        return get_contents(key, table.id_column, bucket, may_delete=may_delete)

    held = _Held()
    read = zip(wanted.numbers.tolist(), get_side_by_side(get, wanted.keys), strict=True)
    for number, contents in read:
        held.add(contents, number)
        is_late = number < newest and not is_time_left()
        if held.count >= _HELD_IDS or is_late:
            _sort_in(held, number, parts, changes, store)
            held = _Held()
        if is_late:
            raise UnfinishedError(
                f"There was no time to read the change stream of {table.name!r}: it was read up to "
                f"object {number} of {newest}. The next call continues there."
            )
    _sort_in(held, newest, parts, changes, store)


def _sort_in(
    held: _Held, number: int, parts: Sequence[Part], changes: Changes, store: Store
) -> None:
    """Add what was said of the ids to their shards, and save the inventory."""
    for part in parts:
        said, is_gone = held.within(part.summary)
        if len(said.ids):
            shard = store.get_shard(part.summary)
            rows = said.chosen(~is_gone)
            gone = np.union1d(np.setdiff1d(shard.gone, rows.ids), said.ids[is_gone])
            _put(part, shard.said.then(rows), gone, store)
        part.summary = replace(part.summary, number=max(number, part.summary.number))
    total = changes.total(number)
    shards = tuple(part.summary for part in parts)
    store.save(replace(store.inventory, shards=shards, changes=total, number=number))


def _put(part: Part, said: Said, gone: Ids, store: Store) -> None:
    known = store.get_shard(part.summary)
    is_known = all(map(np.array_equal, (*known.said, known.gone), (*said, gone)))
    if not is_known:
        part.summary = store.put_shard(part.summary, replace(known, said=said, gone=gone))
