"""The order of a table's objects: the chain of claims from an id on, and the numbers of changes.

A claim names the object with the rows above its id, and the last id of that object leads to the
next claim (see `services.ingestion.land`). Keys are not in the order of ids: `10`, `100`, `2`, `9`.
"""

from __future__ import annotations

from bisect import bisect_right
from itertools import count, pairwise
from typing import TYPE_CHECKING

from shared.bucket import keys
from shared.bucket.objects import damaged
from shared.bucket.position import LONG_WALK, get_claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from shared.bucket.bucket import Bucket
    from shared.tables import Table


def claimed_keys(
    table: Table, row_id: int, bucket: Bucket, *, most_steps: int = LONG_WALK
) -> Iterator[str]:
    """Yield the keys of the batches above an id, each beginning where the one before ends.

    The last one is claimed, but may not have landed yet.

    Args:
        table: the table.
        row_id: where to begin; 0 for all batches.
        bucket: where its objects are.
        most_steps: after so many claims that were read, the rest is listed.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
        StateError: a claim is not valid; or, where they are listed, one is missing before others.
    """
    listed: Mapping[int, str | None] = {}
    for step in count():
        if step == most_steps:
            listed = _list_chain(table, row_id, bucket)
        key = listed.get(row_id) or get_claim(table, row_id, bucket)
        if key is None and any(start > row_id for start in listed):
            claim = keys.format_claim_key(table, row_id)
            raise damaged(claim, "is missing, and there are claims behind it", bucket)
        if key is None:
            return
        yield key
        row_id = keys.parse_data_key(key).row_id


def consecutive_keys(
    table: Table, number: int, listed: Iterable[str], bucket: Bucket
) -> Iterator[str]:
    """Yield keys of the change stream, as they were listed behind a number.

    Raises:
        StateError: an object is missing before others.
    """
    for following, key in enumerate(listed, number + 1):
        expected = keys.format_change_key(table, following)
        if key != expected:
            raise damaged(expected, "is missing, and there are changes behind it", bucket)
        yield key


def _list_chain(table: Table, above: int, bucket: Bucket) -> dict[int, str | None]:
    """Return the claims from an id on, with the keys they name, if the listing tells that.

    A batch ends where the next claim begins, and the next claim is made after its object. So if
    the first object behind a claim ends where the next claim begins, it is the one that the claim
    names. If not, a claim or an object was lost, or it is the last claim: then it has to be read.
    (Where both were lost, nothing here tells; the reconciliation finds it.)
    """
    claims = map(
        keys.parse_claim_key, filter(keys.is_claim_key, bucket.keys(keys.claim_folder(table)))
    )
    starts = sorted(claim.row_id for claim in claims if claim.row_id >= above)
    batches: dict[int, list[str]] = {}
    for key in filter(keys.is_data_key, bucket.keys(keys.data_folder(table))):
        batches.setdefault(keys.parse_data_key(key).row_id, []).append(key)
    ends = sorted(batches)
    chain: dict[int, str | None] = dict.fromkeys(starts)
    for start, following in pairwise(starts):
        first = bisect_right(ends, start)
        if ends[first : first + 1] == [following] and len(batches[following]) == 1:
            [chain[start]] = batches[following]
    return chain
