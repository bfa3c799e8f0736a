"""The end of a load: an ordinary run, and what the workers could not land."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from services.ingestion.run import ingest
from shared.bucket.bucket import Bucket
from shared.bucket.planned import list_pending
from shared.errors import LoadError
from shared.tables import Table
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    from services.ingestion.loads import Outcome
    from services.ingestion.run import Limits


def finish_load(
    outcome: Outcome,
    tables: Sequence[str],
    client: S3Client,
    connection: Connection,
    bucket_name: str,
    limits: Limits,
    *,
    hash_key: str | None = None,
) -> dict[str, Any]:
    """Run; fail if batches are left that a worker failed to land.

    The run moves `latest.json`, lands what is new, and lands such batches, too, as far as its time
    goes. It is of all tables, so that what the loaded rows refer to has landed when it has caught
    up. A backlog that it leaves is no failure.

    Args:
        outcome: what the workers returned.
        tables: the names of all tables, children before parents.
        client: boto3 client of S3.
        connection: a session of the database, in autocommit.
        bucket_name: the bucket to land in.
        limits: what the run may use.
        hash_key: the key of the hashes that land in place of personal data.

    Returns:
        `rows` and `batches` that the workers landed, how many items `failed`, and the result of the
        run in `run`. They lack what runs have landed of the load, and what a worker's call landed
        before it failed.

    Raises:
        LoadError: batches are left.
        IngestionError, TransientIngestionError: the run failed.
        LandingError, LandingUnavailableError, StateError: see `get_latest_id`.
    """
    run = ingest(tables, client, connection, bucket_name, limits, hash_key=hash_key)
    _refuse_unlanded(outcome, Bucket(client, bucket_name))
    items = [*outcome.landed, *outcome.failed]
    summary = {
        "table": outcome.table,
        "rows": sum(each.rows for each in items),
        "batches": sum(each.batches for each in items),
        "failed": len(outcome.failed),
    }
    logger().info("Load finished", extra=summary)
    return summary | {"run": run}


def _refuse_unlanded(outcome: Outcome, bucket: Bucket) -> None:
    """Fail if there are batches that neither a worker nor a run has landed."""
    if not outcome.failed:
        return
    pending = list_pending(Table(outcome.table), bucket)
    left = [
        batch
        for batch in pending
        if any(item.above <= batch.above < item.up_to for item in outcome.failed)
    ]
    if left:
        errors = ", ".join(f"{name} {n} times" for name, n in Counter(outcome.errors).items())
        raise LoadError(
            f"{len(left)} batches of {outcome.table!r} have not landed, the first of them above "
            f"id {left[0].above}. {len(outcome.failed)} workers failed: {errors}; see the log. "
            "Nothing is lost: start the load again, or leave them to the runs, which land one "
            "after the other."
        )
