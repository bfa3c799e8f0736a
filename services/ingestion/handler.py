"""The Lambda's entry: settings, clients and connection for `ingest`, and word of how it went."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.ingestion.ingest import Limits, ingest
from services.ingestion.replay import replay, requested_range
from services.ingestion.tables import TABLES, tables_without_changes
from shared import telemetry
from shared.clients import database_session, s3_client
from shared.errors import EventError, IngestionError, explained
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from aws_lambda_powertools.utilities.typing import LambdaContext

    from services.ingestion.replay import Range

# The share of its time in which a call begins no further batch: what the last one may take. An
# alarm says that a call is slow when a fifth is left.
_RESERVED_SHARE = 0.25


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Land what is new in the tables the event names, `{}` being all of them.

    Args:
        event: `{}` or `{"tables": ["address"]}`; or `{"replay": {...}}`, which lands rows again.
        context: Lambda's; only the remaining time is used.

    Returns:
        `rows`, `tables` (see `ingest`) and, for the state machine, whether there is `more` and how
        old an execution may be to ask for it: `again_if_started_after`, a UTC timestamp. Of a
        replay, `replay` says what it did, and there never is `more`: the next one is asked for.

    Raises:
        PipelineError: one of `shared.errors`; logged as ERROR.
    """
    started = time.monotonic()
    try:
        settings = Settings.from_env(os.environ)
        wanted = requested_range(event)
        if wanted:
            summary = _replay(wanted, settings, context)
        else:
            summary = _run(requested_tables(event), settings, context)
    except Exception as error:  # noqa: BLE001 - raised again, as what can be said of it
        failure = explained(error)
        telemetry.failure("The run failed", failure)
        raise failure from failure.__cause__
    finally:
        telemetry.emit(
            {"Heartbeat": 1, "RunSeconds": time.monotonic() - started},
            {"stage": os.environ.get("STAGE", "unknown")},
        )
    return summary


def requested_tables(event: object) -> Sequence[str]:
    """Return the tables an event asks for, in the order they are to be read.

    Raises:
        EventError: the event is neither empty nor a list of tables of ours.
    """
    if event == {}:
        return TABLES
    names = event.get("tables") if isinstance(event, dict) and len(event) == 1 else None
    if not isinstance(names, list) or not names:
        raise EventError(
            'The event must be {} for all tables or {"tables": ["address", ...]} for some. '
            '{"replay": {...}} lands rows again, see README.'
        )
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise EventError(f"No table of ours: {unknown}. There are {', '.join(TABLES)}.")
    return [table for table in TABLES if table in names]


def _run(tables: Sequence[str], settings: Settings, context: LambdaContext) -> dict[str, Any]:
    limits = Limits(
        settings.batch_rows,
        settings.writer_wait_seconds,
        _seconds_left(context),
        tables_without_changes(settings.without_changes),
    )
    try:
        with database_session(settings) as connection:
            summary = ingest(tables, s3_client(), connection, settings.bucket_name, limits)
    except IngestionError as error:
        _emit_tables(settings.stage, error.done)
        raise
    _emit_tables(settings.stage, summary["tables"])
    logged = {key: summary[key] for key in ("rows", "more")} | {"tables": len(tables)}
    telemetry.logger().info("Run ended", extra=logged)
    return summary | _again(settings)


def _replay(wanted: Range, settings: Settings, context: LambdaContext) -> dict[str, Any]:
    with database_session(settings) as connection:
        done = replay(
            wanted,
            s3_client(),
            connection,
            settings.bucket_name,
            settings.batch_rows,
            _seconds_left(context),
        )
    violations = {"ContractViolations": done["contract_violations"]}
    values = {"RowsReplayed": done["rows"]} | (violations if any(violations.values()) else {})
    telemetry.emit(values, {"stage": settings.stage, "table": wanted.table})
    telemetry.emit(violations, {"stage": settings.stage})
    return {"more": False, "replay": done} | _again(settings)


def _seconds_left(context: LambdaContext) -> Callable[[], float]:
    reserved = context.get_remaining_time_in_millis() * _RESERVED_SHARE
    return lambda: (context.get_remaining_time_in_millis() - reserved) / 1000


def _again(settings: Settings) -> dict[str, str]:
    oldest = datetime.now(UTC) - timedelta(seconds=settings.backlog_seconds)
    return {"again_if_started_after": oldest.isoformat(timespec="milliseconds")[:-6] + "Z"}


def _emit_tables(stage: str, tables: Mapping[str, dict[str, Any]]) -> None:
    for table, done in tables.items():
        _emit_table(stage, table, done)
    # Once more for all tables, zeros too: an alarm takes no sum over a dimension.
    values = {
        "ContractViolations": sum(done["contract_violations"] for done in tables.values()),
        "HeldBackRows": sum(done["held_back_rows"] for done in tables.values()),
        "WatermarkAgeSeconds": max(
            (done["watermark_age_seconds"] for done in tables.values()), default=0
        ),
    }
    telemetry.emit(values, {"stage": stage})


def _emit_table(stage: str, table: str, done: dict[str, Any]) -> None:
    values = {"RowsIngested": done["rows"], "BytesIngested": done["bytes"]}
    if done["held_back_rows"]:
        values["HeldBackRows"] = done["held_back_rows"]
        values["WatermarkAgeSeconds"] = done["watermark_age_seconds"]
    if done["contract_violations"]:
        values["ContractViolations"] = done["contract_violations"]
    if done.get("changes"):
        values["ChangesLanded"] = done["changes"]
        values["ChangesRepeated"] = done["changes_repeated"]
    if any(values.values()):
        telemetry.emit(values, {"stage": stage, "table": table})
