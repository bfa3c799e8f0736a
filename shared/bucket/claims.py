"""Claims: which object holds the rows above an id. See `services.ingestion.land`.

A claim names the object with the rows above its id, and the last id of that object leads to the
next claim. A load claims many batches before they land, and these land in any order.
"""

from __future__ import annotations

import json
from hashlib import md5
from typing import TYPE_CHECKING

from shared.bucket import keys
from shared.errors import StateError

if TYPE_CHECKING:
    from shared.bucket.bucket import Bucket
    from shared.tables import Table


def get_claim(table: Table, row_id: int, bucket: Bucket) -> str | None:
    """Return the key that is claimed for the batch above `row_id`, None if there is no claim.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
        StateError: the claim is not valid.
    """
    claim = keys.format_claim_key(table, row_id)
    found = bucket.get(claim)
    return None if found is None else _parse_claim(claim, found.body, table, row_id)


def create_claim(table: Table, row_id: int, key: str, bucket: Bucket) -> bool:
    """Claim the batch above `row_id` for a key; return False if there is a claim already.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    return bucket.create(keys.format_claim_key(table, row_id), _format_claim(key))


def etag_of_claim(key: str) -> str:
    """Return the ETag that S3 gives to a claim that names a key.

    It is the MD5 of the content, unless a key of KMS encrypts the bucket: then no claim has it.
    https://docs.aws.amazon.com/AmazonS3/latest/API/API_Object.html
    """
    return f'"{md5(_format_claim(key), usedforsecurity=False).hexdigest()}"'


def find_claim(table: Table, row_id: int, bucket: Bucket) -> int | None:
    """Return the id that the claim begins above whose batch has an id, None if there is no claim.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    found = filter(keys.is_claim_key, bucket.keys(keys.claim_folder(table)))
    starts = (keys.parse_claim_key(key).row_id for key in found)
    return max((start for start in starts if start < row_id), default=None)


def _format_claim(key: str) -> bytes:
    return json.dumps({"key": key}).encode()


def _parse_claim(claim: str, body: bytes, table: Table, row_id: int) -> str:
    try:
        key: str = json.loads(body)["key"]
        parsed = keys.parse_data_key(key)
    except (ValueError, KeyError, TypeError, StateError):
        parsed = None
    if parsed is None or parsed.table != table or parsed.row_id <= row_id:
        raise StateError(
            f"{claim} is not a valid claim. Restore it: docs/operating.md, Restore an object."
        )
    return key
