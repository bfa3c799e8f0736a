"""Reads which ids of a table have landed: by its chain of claims, and the objects they name.

The claims say which objects must exist, and each claim begins where the previous one ends. Objects
are listed before claims, so that the claim of every listed object is listed, too.
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

# How many objects are read in parallel: most are small, and a request mostly waits.
_READERS = 8


class Fault(NamedTuple):
    """An object that is not as it landed: its key, and what is wrong with it."""

    key: str
    what: str


@dataclass(frozen=True, slots=True)
class Link:
    """What has landed of the rows from one claim to the next.

    Attributes:
        up_to: the id that the next claim begins at, or the watermark.
        key: the key of its object; None if no claim names one.
        ids: the ids that have landed, ascending; an id occurs as often as there are rows of it.
        faults: what is wrong with the claim or the object.
    """

    up_to: int
    key: str | None
    ids: Ids
    faults: list[Fault]


@dataclass(slots=True)
class Chain:
    """What has landed of a table up to a watermark.

    Attributes:
        table: the table.
        watermark: the highest id to look at.
        bucket: the bucket to look in.
        unclaimed: keys of objects that no claim names; complete once all `links` are read.
    """

    table: Table
    watermark: int
    bucket: Bucket
    unclaimed: set[str] = field(default_factory=set)

    def links(self) -> Iterator[Link]:
        """Yield the links in the order of their ids, each read once.

        Raises:
            LandingError, LandingUnavailableError: see `Bucket`.
        """
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
        """Return the ids that are in none of these other objects.

        Raises:
            LandingError, LandingUnavailableError: see `Bucket`.
        """
        for contents in get_side_by_side(self._contents, others if len(ids) else ()):
            ids = ids[~np.isin(ids, contents.ids)]
        return ids

    def _contents(self, key: str) -> Contents:
        return get_contents(key, self.table.id_column, self.bucket)

    def _get_batch(self, bounds: tuple[int, int]) -> Link:
        above, up_to = bounds
        claim = keys.format_claim_key(self.table, above)
        try:
            key = get_claim(self.table, above, self.bucket)
        except StateError as error:
            return Link(up_to, None, NO_IDS, [Fault(claim, str(error))])
        if key is None:
            return Link(up_to, None, NO_IDS, [Fault(claim, "it is missing")])
        contents = self._contents(key)
        faults = [Fault(key, what) for what in _faults(contents, above, up_to)]
        if (last := keys.parse_data_key(key).row_id) != up_to:
            what = f"the object it names ends at {last}, but the chain continues at {up_to}"
            faults.append(Fault(claim, what))
        own = (contents.ids > above) & (contents.ids <= up_to)
        return Link(up_to, key, np.sort(contents.ids[own]), faults)


def get_side_by_side[Item, Result](
    get: Callable[[Item], Result], items: Iterable[Item]
) -> Iterator[Result]:
    """Yield the result of `get` for each item, in order; several are requested in parallel."""
    with ThreadPoolExecutor(_READERS) as pool:
        waiting: deque[Future[Result]] = deque()
        for item in items:
            waiting.append(pool.submit(get, item))
            if len(waiting) > _READERS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def _faults(contents: Contents, above: int, up_to: int) -> Iterator[str]:
    """Yield what is wrong with an object that must hold the rows above an id up to another."""
    yield from contents.faults
    if not contents.is_there:
        return
    ids = contents.ids
    if contents.rows != str(len(ids)):
        yield f"it holds {len(ids)} rows, but its metadata says {contents.rows}"
    if (np.diff(ids) < 0).any():
        yield "its ids do not ascend"
    if len(strange := ids[(ids <= above) | (ids > up_to)]):
        yield f"{len(strange)} of its ids are not above {above} up to {up_to}, first {strange[0]}"
