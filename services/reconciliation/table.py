"""One table in a reconciliation: it is compared, and its change stream is corrected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from services.reconciliation.comparison import Comparison
from services.reconciliation.listing import UnlistedError
from services.reconciliation.store import OvertakenError
from shared.bucket.bucket import Bucket
from shared.bucket.compared import save_compared
from shared.errors import UnfinishedError
from shared.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    from services.reconciliation.findings import Findings

_ATTEMPTS = 3


def _always() -> bool:
    return True


def reconcile(
    table: str,
    client: S3Client,
    connection: Connection,
    bucket_name: str,
    *,
    with_changes: bool = True,
    with_deletes: bool = True,
    with_listing: bool = True,
    accept_deletes: int = 0,
    is_time_left: Callable[[], bool] = _always,
) -> Findings:
    """Compare a table with what has landed of it, and correct its change stream.

    Args:
        table: its name.
        client: boto3 client of S3.
        connection: a session of the database, in autocommit, on a primary.
        bucket_name: the bucket that it landed in.
        with_changes: whether the table has a change stream, which may yet deliver rows. If it
            should have one, and has none yet, rows that have not landed are `pending`.
        with_deletes: whether the change stream is told of deletes.
        with_listing: whether all that has landed is listed. If not, what the inventory has is taken
            as it was: deletes are found by few requests, and faults are not.
        accept_deletes: up to how many are passed on, even if that is much of the table.
        is_time_left: asked after each object that is read; a later call continues there.

    Raises:
        SourceError, SourceUnavailableError: see `read_ids`.
        LandingError, LandingUnavailableError, StateError: see `find_position`.
        UnfinishedError: there was no time to read all that is new in the bucket.
    """
    bucket, known = Bucket(client, bucket_name), Table(table)
    comparison: Comparison | None = None
    for _ in range(_ATTEMPTS):
        try:
            comparison = Comparison(
                known, bucket, connection, with_changes=with_changes, with_listing=with_listing
            )
            comparison.run(is_time_left)
            if not with_deletes or _correct(comparison, known, bucket, accept_deletes):
                return comparison.findings
        except OvertakenError:
            comparison = None
        except UnlistedError:
            comparison, with_listing = None, True
    if comparison:  # its corrections were overtaken, each time: the next reconciliation makes them
        return comparison.findings
    raise UnfinishedError(
        f"Other reconciliations of {table!r} ran at the same time, {_ATTEMPTS} times. Call again."
    )


def _correct(comparison: Comparison, table: Table, bucket: Bucket, accept_deletes: int) -> bool:
    """Say in the change stream what it did not say; tell whether that is done with.

    It is not if another run or reconciliation was faster: what was found is dropped.
    """
    findings, corrections = comparison.findings, comparison.corrections
    if not corrections or not corrections.can_be_said:
        return corrections is None or not corrections.is_overtaken
    gone = findings.deleted
    findings.objection = corrections.objection(len(gone), comparison.rows, accept_deletes)
    if findings.objection:
        findings.held_back = len(gone)
    else:
        findings.buried = corrections.bury(gone)
    findings.brought = corrections.bring(comparison.unsaid)
    corrections.save()
    if corrections.mark and not corrections.is_overtaken:
        save_compared(table, corrections.mark.writes, bucket)
    return not corrections.is_overtaken
