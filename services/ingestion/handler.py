"""The Lambda handler: reads event and settings, opens a session; runs, replays or restores."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.ingestion.run import Limits, ingest
from shared import telemetry
from shared.clients import s3_client
from shared.errors import explained
from shared.events import requested_tables
from shared.postgres.credentials import get_credentials
from shared.postgres.session import database_session
from shared.settings import BucketSettings, DatabaseSettings, names, switch, whole_number
from shared.tables import tables_without_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from aws_lambda_powertools.utilities.typing import LambdaContext

# The last share of its time, in which a call begins no further batch: the time that the last batch
# may take. An alarm fires for calls that end with a fifth or less left.
_RESERVED_SHARE = 0.25
_DEFAULTS = Limits()


@dataclass(frozen=True, kw_only=True)
class Settings(BucketSettings, DatabaseSettings):
    """The function's environment.

    Attributes:
        batch_rows: how many rows an object holds at most.
        writer_wait_seconds: how long a run waits for open writers, for all tables together.
        backlog_seconds: how old an execution may be to call again while there is a backlog.
        without_changes: the tables that have no change stream; `all` stands for every table.
        tombstones: whether the change streams are told which rows are gone.
    """

    batch_rows: int = whole_number(_DEFAULTS.batch_rows, least=1)
    writer_wait_seconds: int = whole_number(int(_DEFAULTS.writer_wait_seconds), least=0)
    backlog_seconds: int = whole_number(300, least=0)
    without_changes: tuple[str, ...] = names()
    tombstones: bool = switch(default=True)


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Land the new and changed rows of the tables that the event names.

    Args:
        event: `{}` for all tables, `{"tables": ["address"]}` for some; `{"replay": {...}}` to land
            rows again, `{"restore": {...}}` to land a lost object again.
        context: Lambda's; only the remaining time is used.

    Returns:
        `rows` and `tables` (see `ingest`). For the state machine: `deleted`, the tables that the
        reconciliation is to compare after this run; `more`, whether a backlog is left, and
        `again_if_started_after`, a UTC timestamp: only executions that started after it call again.
        After a replay, `replay` is its result, `restore` that of a restoring; `more` is False then.

    Raises:
        PipelineError: one of `shared.errors`; logged, see `telemetry.failure`.
    """
    try:
        settings = Settings.from_env(os.environ)
        if isinstance(event, dict) and "replay" in event:
            summary = _replay(event, settings, context)
        elif isinstance(event, dict) and "restore" in event:
            summary = _restore(event, settings)
        else:
            summary = _run(requested_tables(event), settings, context)
        return summary | _again(settings)
    except Exception as error:  # noqa: BLE001 - raised again, as an error that quotes no values
        failure = explained(error)
        telemetry.failure("The run failed", failure)
        raise failure from failure.__cause__


def _run(tables: Sequence[str], settings: Settings, context: LambdaContext) -> dict[str, Any]:
    limits = Limits(
        settings.batch_rows,
        settings.writer_wait_seconds,
        _seconds_left(context),
        tables_without_changes(settings.without_changes),
    )
    with database_session(settings) as connection:
        key = get_credentials(settings.db_secret_id).hash_key
        summary = ingest(
            tables, s3_client(), connection, settings.bucket_name, limits, hash_key=key
        )
    logged = {key: summary[key] for key in ("rows", "more")} | {"tables": len(tables)}
    telemetry.logger().info("Run ended", extra=logged)
    return summary | {"deleted": summary["deleted"] if settings.tombstones else []}


def _replay(event: dict[str, Any], settings: Settings, context: LambdaContext) -> dict[str, Any]:
    # They import pandas.
    from services.ingestion.replays import refuse_without_changes, replay, requested_range

    wanted, left = requested_range(event), _seconds_left(context)
    refuse_without_changes(wanted.table, tables_without_changes(settings.without_changes))
    with database_session(settings) as connection:
        done = replay(
            wanted,
            s3_client(),
            connection,
            settings.bucket_name,
            settings.batch_rows,
            left,
            hash_key=get_credentials(settings.db_secret_id).hash_key,
        )
    return {"more": False, "replay": done}


def _restore(event: dict[str, Any], settings: Settings) -> dict[str, Any]:
    from services.ingestion.restores import requested_object, restore  # imports pandas

    lost = requested_object(event)
    with_changes = lost.table not in tables_without_changes(settings.without_changes)
    with database_session(settings) as connection:
        done = restore(
            lost,
            s3_client(),
            connection,
            settings.bucket_name,
            with_changes=with_changes,
            hash_key=get_credentials(settings.db_secret_id).hash_key,
        )
    return {"more": False, "restore": done}


def _seconds_left(context: LambdaContext) -> Callable[[], float]:
    reserved = context.get_remaining_time_in_millis() * _RESERVED_SHARE
    return lambda: (context.get_remaining_time_in_millis() - reserved) / 1000


def _again(settings: Settings) -> dict[str, str]:
    oldest = datetime.now(UTC) - timedelta(seconds=settings.backlog_seconds)
    return {"again_if_started_after": oldest.isoformat(timespec="milliseconds")[:-6] + "Z"}
