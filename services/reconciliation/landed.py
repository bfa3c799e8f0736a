"""Which ids of a table have landed: its chain of claims, and the objects they name.

The list of the claims says what there has to be: each begins where the one before ends. Objects are
listed before the claims, so that an object listed has a claim that is listed, too.
"""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from services.reconciliation.contents import NO_IDS, Contents, Ids, get_contents
from shared.bucket import keys
from shared.bucket.position import get_claim
from shared.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from shared.bucket.bucket import Bucket
    from shared.tables import Table

# Objects are mostly small, and a request mostly waits.
_READERS = 8


class Fault(NamedTuple):
    """Something in the bucket that is not as it landed: which object, and what is wrong with it."""

    key: str
    what: str


@dataclass(frozen=True, slots=True)
class Batch:
    """What was found of the rows above an id up to the next claim.

    Attributes:
        up_to: the id that the next claim begins at, or the watermark.
        key: of its object, if there is a claim that names one.
        ids: that have landed, ascending.
        faults: what is wrong.
    """

    up_to: int
    key: str | None
    ids: Ids
    faults: list[Fault]


@dataclass(slots=True)
class Landed:
    """What has landed of a table up to a watermark.

    Attributes:
        table: which.
        watermark: what lies above it is not looked at.
        bucket: where.
        unclaimed: keys of objects that no claim names; complete when the batches are.
    """

    table: Table
    watermark: int
    bucket: Bucket
    unclaimed: set[str] = field(default_factory=set)

    def batches(self) -> Iterator[Batch]:
        """Yield the batches in the order of their ids, each read once."""
        self.unclaimed = {
            key
            for key in self.bucket.keys(keys.data_folder(self.table))
            if keys.is_data_key(key) and keys.parse_data_key(key).row_id <= self.watermark
        }
        starts = {
            start
            for key in self.bucket.keys(keys.claim_folder(self.table))
            if keys.is_claim_key(key)
            and (start := keys.parse_claim_key(key).row_id) < self.watermark
        }
        if self.watermark:
            starts.add(0)
        ranges = pairwise([*sorted(starts), self.watermark])
        for batch in get_side_by_side(self._get_batch, ranges):
            self.unclaimed.discard(batch.key or "")
            yield batch

    def drop_landed(self, ids: Ids, others: Iterable[str]) -> Ids:
        """Return the ids that are in none of some other objects."""
        for contents in get_side_by_side(self._contents, others if len(ids) else ()):
            ids = ids[~np.isin(ids, contents.ids)]
        return ids

    def _contents(self, key: str) -> Contents:
        return get_contents(key, self.table.id_column, self.bucket)

    def _get_batch(self, bounds: tuple[int, int]) -> Batch:
        above, up_to = bounds
        claim = keys.format_claim_key(self.table, above)
        try:
            key = get_claim(self.table, above, self.bucket)
        except StateError as error:
            return Batch(up_to, None, NO_IDS, [Fault(claim, str(error))])
        if key is None:
            return Batch(up_to, None, NO_IDS, [Fault(claim, "it is missing")])
        contents = self._contents(key)
        faults = [Fault(key, what) for what in _faults(contents, above, up_to)]
        if (last := keys.parse_data_key(key).row_id) != up_to:
            what = f"the object it names ends at {last}, and the chain goes on at {up_to}"
            faults.append(Fault(claim, what))
        own = (contents.ids > above) & (contents.ids <= up_to)
        return Batch(up_to, key, np.unique(contents.ids[own]), faults)


def get_side_by_side[Item, Result](
    get: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield what is got for each item, in order; some are asked for side by side."""
    with ThreadPoolExecutor(_READERS) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(get, item))
            if len(waiting) > _READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _faults(contents: Contents, above: int, up_to: int) -> Iterator[str]:
    """Yield what is wrong with an object that holds the rows above an id up to another."""
    yield from contents.faults
    if not contents.is_there:
        return
    ids = contents.ids
    if contents.rows != str(len(ids)):
        yield f"it holds {len(ids)} rows, and its metadata says {contents.rows}"
    if (np.diff(ids) <= 0).any():
        yield "its ids do not ascend, or are duplicated"
    if len(strange := ids[(ids <= above) | (ids > up_to)]):
        yield f"it holds {len(strange)} ids that are not above {above} up to {up_to}: {strange[0]}"
