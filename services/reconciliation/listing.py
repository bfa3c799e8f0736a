"""Lists the claims and the objects of a table, each with a fingerprint of its version.

A fingerprint is a number of 64 bits. The sum of those in a range of ids tells whether anything in
it was written, replaced or deleted since: an inventory of a year is compared without reading it.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from shared.bucket import keys
from shared.bucket.bucket import ListedObject
from shared.bucket.chain import LONG_WALK
from shared.bucket.claims import get_claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from services.reconciliation.ids import Ids
    from shared.bucket.bucket import Bucket
    from shared.prints import Prints
    from shared.tables import Table


class UnlistedError(Exception):
    """What was not listed can't be taken as the inventory has it: begin again, and list all."""


class Listed(NamedTuple):
    """Objects of one kind, by the number in their keys, ascending."""

    numbers: Ids
    prints: Prints
    keys: Sequence[str]

    def between(self, first: int, last: int) -> Listed:
        """Return those with numbers from the first to the last."""
        start, end = np.searchsorted(self.numbers, [first, last + 1])
        return Listed(self.numbers[start:end], self.prints[start:end], self.keys[start:end])

    @property
    def total(self) -> int:
        """The sum of the fingerprints."""
        return int(self.prints.sum(dtype=np.uint64))


def list_batches(table: Table, up_to: int, bucket: Bucket) -> Listed:
    """List the objects of a table by the id they end at, up to a watermark.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
    """
    return _batches(bucket.list(keys.data_folder(table))).between(0, up_to)


def list_claims(table: Table, below: int, bucket: Bucket) -> Listed:
    """List the claims of a table by the id they begin at, below a watermark.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
    """
    return _claims(bucket.list(keys.claim_folder(table))).between(0, below - 1)


def list_changes(table: Table, above: int, bucket: Bucket) -> Listed:
    """List the objects of a table's change stream with numbers above one, by their number.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
    """
    found = bucket.list(keys.change_folder(table), keys.format_change_key(table, above))
    return _listed(found, keys.is_change_key, lambda key: keys.parse_change_key(key).number)


def follow_batches(table: Table, above: int, up_to: int, bucket: Bucket) -> tuple[Listed, Listed]:
    """Return the objects and the claims of a range, by a few requests for each batch.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
        StateError: a claim is not valid.
        UnlistedError: the chain is broken, or so long that listing takes less.
    """
    batches, claims = list[ListedObject](), list[ListedObject]()
    while above < up_to:
        key = get_claim(table, above, bucket)
        claim = bucket.look_up(keys.format_claim_key(table, above))
        batch = bucket.look_up(key) if key else None
        if not claim or not batch or len(batches) >= LONG_WALK:
            raise UnlistedError(table.name)
        claims.append(claim)
        batches.append(batch)
        above = keys.parse_data_key(batch.key).row_id
    return _batches(batches), _claims(claims)


def _batches(found: Iterable[ListedObject]) -> Listed:
    return _listed(found, keys.is_data_key, lambda key: keys.parse_data_key(key).row_id)


def _claims(found: Iterable[ListedObject]) -> Listed:
    return _listed(found, keys.is_claim_key, lambda key: keys.parse_claim_key(key).row_id)


def _listed(
    found: Iterable[ListedObject], is_one: Callable[[str], bool], number: Callable[[str], int]
) -> Listed:
    objects = [(number(each.key), each) for each in found if is_one(each.key)]
    objects.sort(key=lambda pair: (pair[0], pair[1].key))
    return Listed(
        np.array([row_id for row_id, _ in objects], np.int64),
        np.array([_fingerprint(each) for _, each in objects], np.uint64),
        [each.key for _, each in objects],
    )


def _fingerprint(listed: ListedObject) -> int:
    # An object that is written anew with the same content has another time, and is read again.
    version = f"{listed.key} {listed.etag} {listed.modified.isoformat()}"
    return int.from_bytes(blake2b(version.encode(), digest_size=8).digest())
