"""The Lambda handler: reads event and settings, opens a session, and does what is asked for."""

from __future__ import annotations

import os
from contextlib import contextmanager
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
from shared.tables import TABLES, tables_without_changes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from shared.postgres.session import Session

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
            rows again, `{"restore": {...}}` to land a lost object again; `{"plan": {...}}`,
            `{"land": {...}}` and `{"finish": {...}}` for a load, see `loads`.
        context: Lambda's; only the remaining time is used.

    Returns:
        `rows` and `tables` (see `ingest`). For the state machine: `deleted`, the tables that the
        reconciliation is to compare after this run; `more`, whether a backlog is left, and
        `again_if_started_after`, a UTC timestamp: only executions that started after it call again.
        After a replay, `replay` is its result, `restore` that of a restoring; `more` is False then.
        For a load, see `plan_load`, `land_item` and `finish_load`.

    Raises:
        PipelineError: one of `shared.errors`; logged, see `telemetry.failure`.
    """
    try:
        settings = Settings.from_env(os.environ)
        named = [each for each in _KINDS if isinstance(event, dict) and each in event]
        return (
            _KINDS[named[0]](event, settings, context) if named else _run(event, settings, context)
        )
    except Exception as error:  # noqa: BLE001 - raised again, as an error that quotes no values
        failure = explained(error)
        telemetry.failure("The run failed", failure)
        raise failure from failure.__cause__


def _run(event: object, settings: Settings, context: LambdaContext) -> dict[str, Any]:
    tables, limits = requested_tables(event), _limits(settings, context)
    with _session(settings) as (connection, key):
        summary = ingest(
            tables, s3_client(), connection, settings.bucket_name, limits, hash_key=key
        )
    logged = {key: summary[key] for key in ("rows", "more")} | {"tables": len(tables)}
    telemetry.logger().info("Run ended", extra=logged)
    deleted = summary["deleted"] if settings.tombstones else []
    return summary | {"deleted": deleted} | _again(settings)


# A tick that finds nothing needs none of what the others import; most of it imports pandas.


def _replay(event: dict[str, Any], settings: Settings, context: LambdaContext) -> dict[str, Any]:
    from services.ingestion.replays import refuse_without_changes, replay, requested_range

    wanted, limits = requested_range(event), _limits(settings, context)
    refuse_without_changes(wanted.table, limits.without_changes)
    with _session(settings) as (connection, key):
        done = replay(
            wanted,
            s3_client(),
            connection,
            settings.bucket_name,
            limits.batch_rows,
            limits.seconds_left,
            hash_key=key,
        )
    return {"more": False, "replay": done} | _again(settings)


def _restore(event: dict[str, Any], settings: Settings, context: LambdaContext) -> dict[str, Any]:
    from services.ingestion.restores import requested_object, restore

    lost, limits = requested_object(event), _limits(settings, context)
    with_changes = lost.table not in limits.without_changes
    with _session(settings) as (connection, key):
        done = restore(
            lost,
            s3_client(),
            connection,
            settings.bucket_name,
            with_changes=with_changes,
            hash_key=key,
        )
    return {"more": False, "restore": done} | _again(settings)


def _plan(event: dict[str, Any], settings: Settings, context: LambdaContext) -> dict[str, Any]:
    from services.ingestion.loads import requested_load
    from services.ingestion.plan import plan_load

    load, limits = requested_load(event), _limits(settings, context)
    with _session(settings) as (connection, key):
        return plan_load(load, s3_client(), connection, settings.bucket_name, limits, hash_key=key)


def _land(event: dict[str, Any], settings: Settings, context: LambdaContext) -> dict[str, Any]:
    from services.ingestion.items import land_item
    from services.ingestion.loads import requested_item

    item, left = requested_item(event), _seconds_left(context)
    with _session(settings) as (connection, key):
        return land_item(item, s3_client(), connection, settings.bucket_name, left, hash_key=key)


def _finish(event: dict[str, Any], settings: Settings, context: LambdaContext) -> dict[str, Any]:
    from services.ingestion.finish import finish_load
    from services.ingestion.loads import outcome

    items, limits = outcome(event), _limits(settings, context)
    with _session(settings) as (connection, key):
        return finish_load(
            items, TABLES, s3_client(), connection, settings.bucket_name, limits, hash_key=key
        )


# Each kind of event by its only member; one without any of them asks for a run.
_KINDS = {
    "replay": _replay,
    "restore": _restore,
    "plan": _plan,
    "land": _land,
    "finish": _finish,
}


@contextmanager
def _session(settings: Settings) -> Iterator[tuple[Session, str | None]]:
    """Open a session; yield it, and the key of the hashes."""
    with database_session(settings) as connection:
        yield connection, get_credentials(settings.db_secret_id).hash_key


def _limits(settings: Settings, context: LambdaContext) -> Limits:
    return Limits(
        settings.batch_rows,
        settings.writer_wait_seconds,
        _seconds_left(context),
        tables_without_changes(settings.without_changes),
    )


def _seconds_left(context: LambdaContext) -> Callable[[], float]:
    reserved = context.get_remaining_time_in_millis() * _RESERVED_SHARE
    return lambda: (context.get_remaining_time_in_millis() - reserved) / 1000


def _again(settings: Settings) -> dict[str, str]:
    oldest = datetime.now(UTC) - timedelta(seconds=settings.backlog_seconds)
    return {"again_if_started_after": oldest.isoformat(timespec="milliseconds")[:-6] + "Z"}
