"""Reads one batch of a table: the claim that begins above an id, and the object that it names."""

from __future__ import annotations

from collections import deque
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from services.reconciliation.contents import Contents, get_contents
from services.reconciliation.ids import NO_IDS, NO_PRINTS, Ids
from shared.bucket import keys
from shared.bucket.claims import get_claim
from shared.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import Future

    from shared.bucket.bucket import Bucket
    from shared.prints import Prints
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
        above: the id that its claim begins above.
        up_to: the id that the next claim begins above, or the watermark.
        key: the key of its object; None if no claim names one.
        ids: the ids that have landed, ascending; an id occurs as often as there are rows of it.
        prints: the print of each of their lines.
        faults: what is wrong with the claim or the object.
    """

    above: int
    up_to: int
    key: str | None
    ids: Ids
    prints: Prints
    faults: list[Fault]


def get_links(table: Table, above: int, up_to: int, bucket: Bucket) -> list[Link]:
    """Return what has landed from a claim to the next: two links if a claim between is missing.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
    """
    claim = keys.format_claim_key(table, above)
    try:
        key = get_claim(table, above, bucket)
    except StateError as error:
        return [Link(above, up_to, None, NO_IDS, NO_PRINTS, [Fault(claim, str(error))])]
    if key is None:
        return [_without_claim(table, above, up_to)]
    last = keys.parse_data_key(key).row_id
    end = min(last, up_to)
    contents = get_contents(key, table.id_column, bucket, may_delete=False)
    faults = [Fault(key, what) for what in _faults(contents, above, end)]
    if last > up_to:
        what = f"the object it names ends at {last}, but the chain continues at {up_to}"
        faults.append(Fault(claim, what))
    own = np.flatnonzero((contents.ids > above) & (contents.ids <= end))
    own = own[np.argsort(contents.ids[own], kind="stable")]
    link = Link(above, end, key, contents.ids[own], contents.prints[own], faults)
    return [link] if end == up_to else [link, _without_claim(table, end, up_to)]


def _without_claim(table: Table, above: int, up_to: int) -> Link:
    fault = Fault(keys.format_claim_key(table, above), "it is missing")
    return Link(above, up_to, None, NO_IDS, NO_PRINTS, [fault])


def drop_landed(ids: Ids, others: Iterable[str], table: Table, bucket: Bucket) -> Ids:
    """Return the ids that are in none of these other objects.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
    """

    def get(key: str) -> Contents:
        return get_contents(key, table.id_column, bucket, may_delete=False)

    for contents in get_side_by_side(get, others if len(ids) else ()):
        ids = ids[~np.isin(ids, contents.ids)]
    return ids


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
