"""The Lambda's entry: settings, clients and connection for `ingest`, and word of how it went."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from services.ingestion.ingest import Limits, ingest
from services.ingestion.tables import TABLES, tables_without_changes
from shared import telemetry
from shared.clients import database_session, s3_client
from shared.errors import EventError, IngestionError
from shared.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from aws_lambda_powertools.utilities.typing import LambdaContext

# The share of its time in which a call begins no further batch: what the last one may take. An
# alarm says that a call is slow when a fifth is left.
_RESERVED_SHARE = 0.25


def lambda_handler(event: dict[str, Any], context: LambdaContext) -> dict[str, Any]:
    """Land what is new in the tables the event names, `{}` being all of them.

    Args:
        event: `{}` or `{"tables": ["address"]}`.
        context: Lambda's; only the remaining time is used.

    Returns:
        `rows`, `tables` (see `ingest`) and, for the state machine, whether there is `more` and how
        old an execution may be to ask for it: `again_if_started_after`, a UTC timestamp.

    Raises:
        PipelineError: one of `shared.errors`; logged as ERROR.
    """
    started = time.monotonic()
    try:
        settings = Settings.from_env(os.environ)
        summary = _run(requested_tables(event), settings, context)
    except Exception as error:
        telemetry.failure("The run failed", error)
        raise
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
            'The event must be {} for all tables or {"tables": ["address", ...]} for some.'
        )
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise EventError(f"No table of ours: {unknown}. There are {', '.join(TABLES)}.")
    return [table for table in TABLES if table in names]


def _run(tables: Sequence[str], settings: Settings, context: LambdaContext) -> dict[str, Any]:
    reserved = context.get_remaining_time_in_millis() * _RESERVED_SHARE
    limits = Limits(
        settings.batch_rows,
        settings.writer_wait_seconds,
        lambda: (context.get_remaining_time_in_millis() - reserved) / 1000,
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
    oldest = datetime.now(UTC) - timedelta(seconds=settings.backlog_seconds)
    return summary | {
        "again_if_started_after": oldest.isoformat(timespec="milliseconds")[:-6] + "Z"
    }


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
