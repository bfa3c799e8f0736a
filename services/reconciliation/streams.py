"""What the bucket has of a table: its chain of claims up to the watermark, and its change stream.

The change stream is listed first, then the watermark is found, then objects are listed before
claims. `services.reconciliation.comparison` says why.

A night lists all. That takes a request for each thousand keys, too many for every ten minutes: a
call after a run takes what the inventory has as it was, and only finds what has landed since.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from services.reconciliation.listing import (
    UnlistedError,
    follow_batches,
    list_batches,
    list_changes,
    list_claims,
)
from shared.bucket.position import find_position

if TYPE_CHECKING:
    from services.reconciliation.inventory import Inventory
    from services.reconciliation.listing import Listed
    from shared.bucket.bucket import Bucket
    from shared.tables import Table


@dataclass(frozen=True, slots=True)
class Changes:
    """The objects of a change stream.

    Attributes:
        listed: those with numbers above `above`.
        above: the number of the last one that was not listed, 0 if all were.
        before: the sum of the fingerprints of those that were not listed, as the inventory has it.
    """

    listed: Listed
    above: int = 0
    before: int = 0

    @property
    def number(self) -> int:
        """The number of the last object, 0 if there is none."""
        return int(self.listed.numbers[-1]) if len(self.listed.numbers) else self.above

    def total(self, up_to: int) -> int:
        """Return the sum of the fingerprints of the objects up to a number."""
        return (self.before + self.listed.between(1, up_to).total) % 2**64


@dataclass(frozen=True, slots=True)
class Streams:
    """What the bucket has of a table.

    Attributes:
        watermark: the id up to which all rows have landed.
        batches: the objects up to the watermark, by the id they end at.
        claims: the claims below the watermark, by the id they begin at.
        changes: the change stream.
        is_whole: whether all was listed; if not, batches and claims are those that the inventory
            does not have.
    """

    watermark: int
    batches: Listed
    claims: Listed
    changes: Changes
    is_whole: bool


def list_streams(table: Table, bucket: Bucket) -> Streams:
    """List what there is of a table.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `find_position`.
    """
    changes = Changes(list_changes(table, 0, bucket))
    watermark = find_position(table, bucket).row_id
    batches = list_batches(table, watermark, bucket)
    return Streams(watermark, batches, list_claims(table, watermark, bucket), changes, True)


def follow_streams(table: Table, inventory: Inventory, bucket: Bucket) -> Streams:
    """Find what there is of a table that its inventory does not have.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `find_position`.
        UnlistedError: the inventory has nothing, or too little to spare listing all.
    """
    number = inventory.number
    changes = Changes(list_changes(table, number, bucket), number, inventory.changes)
    watermark = find_position(table, bucket).row_id
    known = inventory.shards[-1].up_to if inventory.shards else 0
    if not 0 < known <= watermark:
        raise UnlistedError(table.name)
    batches, claims = follow_batches(table, known, watermark, bucket)
    return Streams(watermark, batches, claims, changes, False)
