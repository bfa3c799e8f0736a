"""The Lambda handler: reconciles every table, each in a session of its own, and reports."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from services.reconciliation import report
from services.reconciliation.comparison import reconcile
from shared import telemetry
from shared.bucket.bucket import Bucket
from shared.clients import s3_client
from shared.errors import PipelineError, explained, run_error
from shared.postgres.session import database_session
from shared.settings import BucketSettings, DatabaseSettings, names
from shared.tables import TABLES, tables_without_changes

if TYPE_CHECKING:
    from collections.abc import Callable

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from services.reconciliation.comparison import Findings


@dataclass(frozen=True, kw_only=True)
class Settings(BucketSettings, DatabaseSettings):
    """The function's environment.

    Attributes:
        without_changes: the tables that have no change stream; `all` stands for every table.
    """

    without_changes: tuple[str, ...] = names()


# A table's comparison takes this long at most, once everything in the bucket is read.
_LAST_MILLISECONDS = 120_000


def lambda_handler(event: object, context: LambdaContext) -> dict[str, Any]:  # noqa: ARG001
    """Reconcile every table, whatever the event.

    Returns:
        `key`, the key of the report; `tables`, the figures of each table.

    Raises:
        PipelineError: one of `shared.errors`, once all tables that could be were reconciled.
    """
    try:
        return _run(
            Settings.from_env(os.environ),
            lambda: context.get_remaining_time_in_millis() > _LAST_MILLISECONDS,
        )
    except Exception as error:  # noqa: BLE001 - raised again, as an error that quotes no values
        failure = explained(error)
        telemetry.failure("The reconciliation failed", failure)
        raise failure from failure.__cause__


def _run(settings: Settings, is_time_left: Callable[[], bool]) -> dict[str, Any]:
    date = datetime.now(UTC).date().isoformat()
    found, failures = _reconcile_all(settings, is_time_left)
    key = report.write(found, failures, date, Bucket(s3_client(), settings.bucket_name))
    if failures:
        raise run_error(failures)
    return {"key": key, "tables": {each.table: report.counts(each) for each in found}}


def _reconcile_all(
    settings: Settings, is_time_left: Callable[[], bool]
) -> tuple[list[Findings], dict[str, PipelineError]]:
    without_changes = tables_without_changes(settings.without_changes)
    found: list[Findings] = []
    failures: dict[str, PipelineError] = {}
    for table in TABLES:
        try:
            with database_session(settings) as connection:
                findings = reconcile(
                    table,
                    s3_client(),
                    connection,
                    settings.bucket_name,
                    with_changes=table not in without_changes,
                    is_time_left=is_time_left,
                )
        except Exception as error:  # noqa: BLE001 - kept as the table's failure, whatever it is
            failures[table] = explained(error)
            telemetry.failure(
                f"Table {table!r} could not be reconciled", failures[table], table=table
            )
        else:
            found.append(findings)
            report.log(findings)
    return found, failures
