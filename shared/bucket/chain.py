"""The order of a table's objects: the chain of claims from an id on, and the numbers of changes.

A claim leads to the next one, see `shared.bucket.claims`. Keys are not in the order of ids: `10`,
`100`, `2`, `9`.
"""

from __future__ import annotations

from bisect import bisect_left
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import count, pairwise, takewhile
from typing import TYPE_CHECKING, NamedTuple

from shared.bucket import keys
from shared.bucket.bucket import PARALLEL_READS
from shared.bucket.claims import create_claim, etag_of_claim, get_claim
from shared.bucket.objects import damaged
from shared.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence

    from shared.bucket.bucket import Bucket
    from shared.tables import Table

# After so many steps from claim to claim the keys are listed: a page of 1,000 takes one request.
LONG_WALK = 100
# So many claims are read ahead of the first of them: whoever follows the chain may stop there.
_MOST_AHEAD = 1_000


class Claimed(NamedTuple):
    """A batch that is claimed.

    Attributes:
        key: of its object.
        is_listed: whether the object was listed, and so has landed. If not, it may have, too.
    """

    key: str
    is_listed: bool


@dataclass(frozen=True, slots=True)
class _Listed:
    """A table's claims and objects from an id on, as they were listed.

    Attributes:
        starts: the ids that the claims begin above, ascending.
        named: the keys that the claims name, by these ids, as far as they are known.
        keys: the keys of the objects.
        ends: the last ids of the objects.
    """

    starts: Sequence[int] = ()
    named: dict[int, str] = field(default_factory=dict)
    keys: Collection[str] = ()
    ends: Collection[int] = ()

    @property
    def last(self) -> int:
        """The highest id that a claim begins above."""
        return self.starts[-1] if self.starts else 0

    def ahead(self, row_id: int) -> Sequence[int]:
        """Return which claims to read at once: the one above an id, if unknown, and more behind it.

        Their batches have probably landed: an object ends where the next claim begins. Others would
        be read for nothing, because the chain is mostly followed up to the first batch that has
        not landed.
        """
        if row_id in self.named:
            return ()
        first = bisect_left(self.starts, row_id)
        claims = pairwise(self.starts[first : first + _MOST_AHEAD])
        ahead = takewhile(lambda it: it[0] not in self.named and it[1] in self.ends, claims)
        return [start for start, _ in ahead]


def follow_claims(
    table: Table, row_id: int, bucket: Bucket, *, most_steps: int = LONG_WALK
) -> Iterator[Claimed]:
    """Yield the batches that are claimed above an id, each beginning where the one before ends.

    Any of them may not have landed yet, see `Claimed`.

    Args:
        table: the table.
        row_id: where to begin; 0 for all batches.
        bucket: where its objects are.
        most_steps: after so many claims that were read, the rest is listed.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
        StateError: a claim is not valid; or, where they are listed, one is missing before others.
    """
    listed = _Listed()
    for step in count():
        if step == most_steps:
            listed = _list_chain(table, row_id, bucket)
        if ahead := listed.ahead(row_id):
            listed.named.update(_read_claims(table, ahead, bucket))
        key = listed.named.get(row_id) or get_claim(table, row_id, bucket)
        if key is None and row_id < listed.last:
            raise _lost_claim(table, row_id, keys.format_claim_key(table, listed.last), bucket)
        if key is None:
            return
        yield Claimed(key, key in listed.keys)
        row_id = keys.parse_data_key(key).row_id


def claim_batch(
    table: Table, above: int, up_to: int, highest_id: int | None, bucket: Bucket, *, is_end: bool
) -> tuple[str, bool]:
    """Claim the batch above an id; return its key, and whether it is ours.

    If not, it is that of the first to claim it: the batch may end elsewhere, and more may be
    claimed behind it.

    Args:
        table: the table.
        above: where the chain ends.
        up_to: where the batch is to end.
        highest_id: the highest id in the source; None if that is not known.
        bucket: where the table's objects are.
        is_end: whether it is known that nothing is claimed behind; if not, `check_end` looks.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
        StateError: the claim there is lost, or not valid.
    """
    if not is_end:
        highest = None if highest_id is None else max(highest_id, up_to)
        check_end(table, above, highest, bucket)
    key = keys.format_data_key(table, up_to, keys.timestamp_now())
    if create_claim(table, above, key, bucket):
        return key, True
    theirs = get_claim(table, above, bucket)
    if theirs is None:
        claim = keys.format_claim_key(table, above)
        raise damaged(claim, "existed a moment ago and is missing", bucket)
    return theirs, False


def check_end(table: Table, row_id: int, highest_id: int | None, bucket: Bucket) -> None:
    """Make sure that the chain ends at an id, where no claim was found, before one is made there.

    latest.json may have been put back to an older version, or lag, and the claim there be lost.
    Claimed anew, the rows behind it would land twice. What was claimed or landed behind it shows
    that: rows that are still in the source are up to its highest id, so no other keys are listed.

    Args:
        table: the table.
        row_id: the id.
        highest_id: the highest id in the source; None if that is not known.
        bucket: where the table's objects are.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
        StateError: the claim there is lost, or not valid.
    """
    folders = keys.claim_folder(table), keys.data_folder(table)
    behind = (key for each in folders for key in keys_near(each, row_id, highest_id, bucket))
    # Another run may have claimed it meanwhile, and gone on: a claim is older than what is behind.
    found = next((key for key in behind if _id_of(key) > row_id), None)
    if found and get_claim(table, row_id, bucket) is None:
        raise _lost_claim(table, row_id, found, bucket)


def keys_near(folder: str, row_id: int, highest_id: int | None, bucket: Bucket) -> Iterator[str]:
    """Yield the keys in a folder with ids above one up to another, and some others.

    Of one number of digits, ids are in the order of their keys. So a few requests find them, where
    a whole folder takes one for each thousand keys.
    """
    if highest_id is None:
        yield from bucket.keys(folder)
        return
    first = row_id + 1
    while first <= highest_id:
        last = min(highest_id, 10 ** len(str(first)) - 1)
        # `~` is behind all that follows an id in a key.
        near = bucket.keys(folder, after=f"{folder}{first}")
        yield from takewhile(f"{folder}{last}~".__gt__, near)
        first = last + 1


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


def _list_chain(table: Table, row_id: int, bucket: Bucket) -> _Listed:
    """List the claims and the objects from an id on; tell by ETags which objects the claims name.

    What does not match has to be read: a claim whose object has not landed, or is lost, or that
    was put back by hand; and every claim if a key of KMS encrypts the bucket.
    """
    found = bucket.list(keys.claim_folder(table))
    claims = {start: each.etag for each in found if (start := _id_of(each.key)) >= row_id}
    if not claims:
        return _Listed()
    listed = filter(keys.is_data_key, bucket.keys(keys.data_folder(table)))
    ends = {key: end for key in listed if (end := _id_of(key)) > row_id}
    by_etag = {etag_of_claim(key): key for key in ends}
    named = {start: by_etag[etag] for start, etag in claims.items() if etag in by_etag}
    # A claim that leads back is not valid: reading it says so.
    named = {start: key for start, key in named.items() if ends[key] > start}
    return _Listed(sorted(claims), named, ends.keys(), {*ends.values()})


def _read_claims(table: Table, starts: Sequence[int], bucket: Bucket) -> dict[int, str]:
    """Read claims, some at once; return the keys that they name, by the ids they begin above.

    One that is missing or not valid is left out: whoever follows the chain to it reads it again.
    """

    def read(start: int) -> str | None:
        with suppress(StateError):  # it is raised when the claim is read again, see above
            return get_claim(table, start, bucket)
        return None

    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        read_keys = pool.map(read, starts)
        return {start: key for start, key in zip(starts, read_keys, strict=True) if key}


def _id_of(key: str) -> int:
    """Return the id that a claim begins above, or a batch ends at; -1 for any other key."""
    if keys.is_claim_key(key):
        return keys.parse_claim_key(key).row_id
    return keys.parse_data_key(key).row_id if keys.is_data_key(key) else -1


def _lost_claim(table: Table, row_id: int, behind: str, bucket: Bucket) -> StateError:
    claim = keys.format_claim_key(table, row_id)
    return damaged(claim, f"is missing, and {behind} is behind it", bucket)
