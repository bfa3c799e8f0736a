"""A worker of a load: lands the batches of a stretch of the chain of claims."""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from services.ingestion.claimed import land_claimed
from shared.bucket import keys
from shared.bucket.bucket import Bucket, Landed
from shared.bucket.claims import get_claim
from shared.bucket.objects import damaged
from shared.contracts.check import Inspector
from shared.contracts.contract import personal_data
from shared.tables import Table
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    from services.ingestion.loads import Item


def land_item(
    item: Item,
    client: S3Client,
    connection: Connection,
    bucket_name: str,
    seconds_left: Callable[[], float],
    *,
    hash_key: str | None = None,
) -> dict[str, Any]:
    """Land the batches of an item that have not landed yet, in the order of their ids.

    Rows that were deleted since they were claimed make a batch smaller, or leave it empty.

    Args:
        item: which batches.
        client: boto3 client of S3.
        connection: a session of the database, in autocommit.
        bucket_name: the bucket to land in.
        seconds_left: returns how long this may go on; no batch is begun once it returns 0.
        hash_key: the key of the hashes that land in place of personal data.

    Returns:
        The item as its next call needs it, and in `more` whether it needs one.

    Raises:
        ConfigError, SourceError, SourceUnavailableError: see `get_table_data`.
        LandingError, LandingUnavailableError: S3 refuses, or fails.
        StateError: a claim is missing, or not valid.
    """
    table, bucket, above = Table(item.table), Bucket(client, bucket_name), item.above
    personal, inspector, landed = personal_data(table, hash_key), Inspector(table), list[Landed]()
    while above < item.up_to and seconds_left() > 0:
        key = _claimed_key(table, above, bucket)
        put = land_claimed(
            table, above, key, connection, bucket, inspector=inspector, personal=personal
        )
        landed += [put] if put else []
        above = keys.parse_data_key(key).row_id
    rows = sum(each.rows for each in landed)
    done = replace(item, above=above, rows=item.rows + rows, batches=item.batches + len(landed))
    said = {
        "table": table.name,
        "rows": rows,
        "batches": len(landed),
        "bytes": sum(each.bytes for each in landed),
        "latest_row_id": above,
        "contract_violations": len(inspector.reported),
    }
    logger().info("Batches of a load landed", extra=said)
    return {"more": above < item.up_to} | asdict(done)


def _claimed_key(table: Table, above: int, bucket: Bucket) -> str:
    key = get_claim(table, above, bucket)
    if key is None:
        claim = keys.format_claim_key(table, above)
        raise damaged(claim, "is missing, and there are claims behind it", bucket)
    return key
