"""The batches that a table's claims plan, landed or not, by two listings.

While a load is under way, claims are far ahead of their objects. A claim without its object has the
key only in its body; but its batch ends where the next claim begins, and that is in the listing.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, NamedTuple

from shared.bucket import keys
from shared.bucket.claims import get_claim
from shared.bucket.objects import damaged
from shared.bucket.position import get_position

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.bucket.bucket import Bucket
    from shared.tables import Table


class Planned(NamedTuple):
    """A batch that is claimed: its rows are those above an id, up to another one."""

    above: int
    up_to: int
    has_landed: bool


def list_planned(table: Table, bucket: Bucket) -> Sequence[Planned]:
    """Return the batches of a table in the order of their ids; the last one ends the chain.

    Where a claim is missing between others, the batch before it seems to reach to the next one.
    Whoever follows the claims finds it.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
        StateError: the last claim is not valid; or there are objects behind it, so it was not the
            last one.
    """
    # The objects first: what is not among them lands later, and is only looked up once more.
    landed = {
        keys.parse_data_key(key).row_id
        for key in bucket.keys(keys.data_folder(table))
        if keys.is_data_key(key)
    }
    claims = filter(keys.is_claim_key, bucket.keys(keys.claim_folder(table)))
    bounds = sorted(keys.parse_claim_key(key).row_id for key in claims)
    bounds.append(_end(table, bounds, bucket))
    if landed and max(landed) > bounds[-1]:
        claim = keys.format_claim_key(table, bounds[-1])
        raise damaged(claim, "is missing, and there are objects behind it", bucket)
    return [Planned(above, up_to, up_to in landed) for above, up_to in pairwise(bounds)]


def list_pending(table: Table, bucket: Bucket) -> Sequence[Planned]:
    """Return the batches that are claimed and have not landed, in the order of their ids.

    An object that is missing below the position has landed, and is lost: that is for `restores`.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `list_planned` and `get_position`.
    """
    front = get_position(table, bucket).row_id
    planned = list_planned(table, bucket)
    return [each for each in planned if not each.has_landed and each.above >= front]


def _end(table: Table, starts: Sequence[int], bucket: Bucket) -> int:
    """Return the last id of the batch that the last claim names; 0 if there are no claims."""
    if not starts:
        return 0
    key = get_claim(table, starts[-1], bucket)
    if key is None:
        claim = keys.format_claim_key(table, starts[-1])
        raise damaged(claim, "was listed a moment ago and is missing", bucket)
    return keys.parse_data_key(key).row_id
