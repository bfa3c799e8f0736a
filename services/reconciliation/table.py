"""One table in a reconciliation: it is compared, and its change stream is corrected."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import numpy as np

from services.reconciliation.comparison import OTHERS_WROTE, Comparison
from services.reconciliation.listing import UnlistedError
from services.reconciliation.store import OvertakenError
from shared import telemetry
from shared.bucket.bucket import Bucket
from shared.bucket.compared import save_compared
from shared.contracts.contract import personal_data
from shared.errors import PipelineError, UnfinishedError
from shared.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import date

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
    proof_days: int = 30,
    is_time_to_prove: Callable[[], bool] = _always,
    today: date | None = None,
    hash_key: str | None = None,
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
        proof_days: in how many days the values of all rows are to be proved.
        is_time_to_prove: asked before values are read; a later call continues there.
        today: the day, by which it is known whose turn it is; by default that of the clock, in UTC.
        hash_key: the key of the hashes that land in place of personal data.

    Raises:
        ConfigError: the table's contract is not valid, or hashes a column and there is no key.
        SourceError, SourceUnavailableError: see `read_ids`.
        LandingError, LandingUnavailableError, StateError: see `find_position`.
        UnfinishedError: there was no time to read all that is new in the bucket.
    """
    bucket, known = Bucket(client, bucket_name), Table(table)
    personal = personal_data(known, hash_key)
    day = (today or datetime.now(UTC)).toordinal()
    comparison: Comparison | None = None
    buried = brought = 0
    is_to_prove = with_listing
    for _ in range(_ATTEMPTS):
        try:
            comparison = Comparison(
                known,
                bucket,
                connection,
                with_changes=with_changes,
                with_listing=with_listing,
                today=day,
                personal=personal,
            )
            comparison.run(is_time_left)
            if with_deletes:
                _correct(comparison, known, bucket, accept_deletes)
            buried += comparison.findings.buried
            brought += comparison.findings.brought
            if not comparison.is_overtaken:
                break
        except OvertakenError:
            comparison = None
        except UnlistedError:
            comparison, with_listing = None, True
    if not comparison:
        raise UnfinishedError(
            f"Other reconciliations of {table!r} ran at the same time, {_ATTEMPTS} times. Call "
            "again."
        )
    # If it was overtaken each time, the next reconciliation says the rest.
    if is_to_prove:
        _prove(comparison, known, proof_days, is_time_to_prove)
    return replace(comparison.findings, buried=buried, brought=brought)


def _prove(
    comparison: Comparison, table: Table, days: int, is_time_left: Callable[[], bool]
) -> None:
    """Prove values; if that fails, it does not hide what the comparison has found."""
    try:
        comparison.prove(days, is_time_left)
    except OvertakenError:
        comparison.findings.unproved = OTHERS_WROTE
    except PipelineError as error:
        comparison.findings.unproved = f"{type(error).__name__}: {error}"
        telemetry.failure(f"Values of {table.name!r} were not proved", error, table=table.name)


def _correct(comparison: Comparison, table: Table, bucket: Bucket, accept_deletes: int) -> None:
    """Say in the change stream what it did not say.

    If another run or reconciliation is faster, what was found is dropped.
    """
    findings, corrections = comparison.findings, comparison.corrections
    if not corrections or not corrections.can_be_said:
        return
    rows = int(np.isin(findings.deleted, comparison.gone).sum())
    findings.objection = corrections.objection(rows, comparison.rows, accept_deletes)
    if findings.objection:
        findings.held_back = rows
    else:
        findings.buried = corrections.bury(comparison.gone)
    findings.brought = corrections.bring(comparison.unsaid)
    corrections.save()
    if corrections.mark and not corrections.is_overtaken:
        save_compared(table, corrections.mark.writes, bucket)
