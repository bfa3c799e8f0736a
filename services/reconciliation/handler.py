"""The Lambda handler: reconciles tables, each in a session of its own, and reports."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from services.reconciliation import report
from services.reconciliation.table import reconcile
from shared import telemetry
from shared.bucket.bucket import Bucket
from shared.clients import s3_client
from shared.errors import EventError, PipelineError, explained, run_error
from shared.events import requested_tables
from shared.postgres.credentials import get_credentials
from shared.postgres.session import database_session
from shared.settings import BucketSettings, DatabaseSettings, names, switch, whole_number
from shared.tables import tables_without_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from services.reconciliation.findings import Findings


@dataclass(frozen=True, kw_only=True)
class Settings(BucketSettings, DatabaseSettings):
    """The function's environment.

    Attributes:
        without_changes: the tables that have no change stream; `all` stands for every table.
        tombstones: whether the change streams are told which rows are gone.
        proof_days: in how many days the values of all rows are compared with what has landed.
    """

    without_changes: tuple[str, ...] = names()
    tombstones: bool = switch(default=True)
    proof_days: int = whole_number(30, least=1)


class Asked(NamedTuple):
    """What an event asks for.

    Attributes:
        tables: which tables to reconcile.
        accept_deletes: up to how many deletes of the table are passed on, even if they are much of
            it.
        with_listing: whether all that has landed is looked at, not just deletes.
    """

    tables: Sequence[str]
    accept_deletes: int = 0
    with_listing: bool = True


# A table's comparison takes this long at most, once everything in the bucket is read.
_LAST_MILLISECONDS = 120_000


def lambda_handler(event: object, context: LambdaContext) -> dict[str, Any]:
    """Reconcile the tables that the event names.

    Args:
        event: `{}` for all tables, `{"tables": ["address"]}` for some; for one of them also with
            `"accept_deletes": 3000`, up to how many deletes are passed on. `{"deletes":
            ["address"]}`, after a run, to look for deletes only.
        context: Lambda's; only the remaining time is used.

    Returns:
        `key`, the key of the report, None if only deletes were looked for; `tables`, the figures of
        each table.

    Raises:
        PipelineError: one of `shared.errors`, once all tables that could be were reconciled.
    """
    try:
        return _run(
            requested(event),
            Settings.from_env(os.environ),
            lambda: context.get_remaining_time_in_millis() - _LAST_MILLISECONDS,
        )
    except Exception as error:  # noqa: BLE001 - raised again, as an error that quotes no values
        failure = explained(error)
        telemetry.failure("The reconciliation failed", failure)
        raise failure from failure.__cause__


def requested(event: object) -> Asked:
    """Return what an event asks for.

    Raises:
        EventError: it asks for nothing that there is.
    """
    if isinstance(event, dict) and event.keys() == {"deletes"}:
        return Asked(requested_tables({"tables": event["deletes"]}), with_listing=False)
    if not isinstance(event, dict) or "accept_deletes" not in event:
        return Asked(requested_tables(event))
    rest = {name: value for name, value in event.items() if name != "accept_deletes"}
    asked = Asked(requested_tables(rest), event["accept_deletes"])
    if len(asked.tables) != 1:
        raise EventError("Deletes are accepted for one table: make reconcile TABLE=payment ...")
    if type(asked.accept_deletes) is not int or asked.accept_deletes < 1:
        raise EventError(
            f"accept_deletes must be a whole number from 1, not {asked.accept_deletes!r}."
        )
    return asked


def _run(asked: Asked, settings: Settings, milliseconds_left: Callable[[], int]) -> dict[str, Any]:
    date = datetime.now(UTC).date().isoformat()
    found, failures = _reconcile_all(asked, settings, milliseconds_left)
    bucket = Bucket(s3_client(), settings.bucket_name)
    key = report.write(found, failures, date, bucket) if asked.with_listing else None
    if failures:
        raise run_error(failures)
    return {"key": key, "tables": {each.table: report.counts(each) for each in found}}


def _reconcile_all(
    asked: Asked, settings: Settings, milliseconds_left: Callable[[], int]
) -> tuple[list[Findings], dict[str, PipelineError]]:
    found: list[Findings] = []
    failures: dict[str, PipelineError] = {}
    for number, table in enumerate(asked.tables):
        # The tables share the time that is left: what one does not take, those behind it may.
        share = milliseconds_left() / (len(asked.tables) - number)
        until = milliseconds_left() - share
        try:
            found.append(_reconcile(table, asked, settings, milliseconds_left, until))
        except Exception as error:  # noqa: BLE001 - kept as the table's failure, whatever it is
            failures[table] = explained(error)
            telemetry.failure(
                f"Table {table!r} could not be reconciled", failures[table], table=table
            )
    return found, failures


def _reconcile(
    table: str,
    asked: Asked,
    settings: Settings,
    milliseconds_left: Callable[[], int],
    until: float,
) -> Findings:
    with database_session(settings) as connection:
        findings = reconcile(
            table,
            s3_client(),
            connection,
            settings.bucket_name,
            with_changes=table not in tables_without_changes(settings.without_changes),
            with_deletes=settings.tombstones,
            with_listing=asked.with_listing,
            accept_deletes=asked.accept_deletes,
            is_time_left=lambda: milliseconds_left() > 0,
            proof_days=settings.proof_days,
            is_time_to_prove=lambda: milliseconds_left() > until,
            hash_key=get_credentials(settings.db_secret_id).hash_key,
        )
    report.log(findings)
    return findings
