"""How each table of a deployed stage stands, read from its bucket, its database and its log.

Nothing is written. Values that can't be reached from here are None, and a note says why.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from itertools import repeat
from typing import TYPE_CHECKING, Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from services.reconciliation.inventory import parse
from shared.bucket import keys
from shared.bucket.bucket import Bucket
from shared.bucket.chain import keys_near
from shared.bucket.changes import get_change_state
from shared.bucket.pointer import get_pointer
from shared.bucket.position import find_position
from shared.clients import s3_client
from shared.errors import PipelineError
from shared.postgres.session import database_session
from shared.postgres.survey import read_highest_ids
from shared.tables import TABLES, Table, tables_without_changes
from tools.loads import loads_under_way
from tools.stages import log_group

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.ingestion.handler import Settings
    from tools.loads import LoadStatus
    from tools.stages import Function

# Each takes a request. A table has up to 144 objects a day, and more during a first load.
MOST_OBJECTS = 300
LOG_MINUTES = 60
MOST_LINES = 1000


@dataclass(frozen=True, slots=True)
class TableStatus:
    """How a table stands.

    Attributes:
        table: its name.
        watermark: the id up to which all rows have landed.
        highest_id: the highest id in the source.
        landed_at: when the last batch landed, UTC.
        age_seconds: how long ago that was.
        last_key: the object of the last batch.
        last_rows: how many rows that object has.
        rows_today: how many rows have landed since midnight, UTC.
        held_back_rows: how many rows the last run held back.
        changes: the number of the last object of the change stream.
        proof_days_behind: for how many days values wait to be compared beyond their turn.
    """

    table: str
    watermark: int | None = None
    highest_id: int | None = None
    landed_at: str | None = None
    age_seconds: int | None = None
    last_key: str | None = None
    last_rows: int | None = None
    rows_today: int | None = None
    held_back_rows: int | None = None
    changes: int | None = None
    proof_days_behind: int | None = None


@dataclass(slots=True)
class StageStatus:
    """How all tables stand, which loads are under way, and why some values are missing."""

    tables: list[TableStatus]
    notes: list[str] = field(default_factory=list)
    loads: list[LoadStatus] = field(default_factory=list)


def stage_standing(function_name: str, settings: Settings, now: datetime) -> StageStatus:
    """Return how all tables of a stage stand."""
    bucket = Bucket(s3_client(), settings.bucket_name)
    with ThreadPoolExecutor(len(TABLES)) as pool:
        found = list(pool.map(_in_bucket, TABLES, *map(repeat, (bucket, settings, now))))
    stage = StageStatus([standing for standing, _ in found])
    stage.notes += [note for _, notes in found for note in notes]
    highest = _in_source(settings, stage.notes)
    held_back = _held_back(function_name, now, stage.notes)
    stage.tables = [
        replace(each, highest_id=highest.get(each.table), held_back_rows=held_back.get(each.table))
        for each in stage.tables
    ]
    return stage


def loads_standing(function: Function, notes: list[str]) -> Sequence[LoadStatus]:
    """Return how far the loads of a stage are that are under way; mostly none, by one request."""
    try:
        return [each.look()[0] for each in loads_under_way(function)]
    except (BotoCoreError, ClientError) as error:
        notes.append(f"Loads: they can't be listed: {error}")
        return []


def _in_bucket(
    table: str, bucket: Bucket, settings: Settings, now: datetime
) -> tuple[TableStatus, Sequence[str]]:
    standing, notes, known = TableStatus(table), [], Table(table)
    try:
        latest = find_position(known, bucket).latest
        standing = replace(standing, watermark=latest.latest_row_id)
        if latest.timestamp:
            at = keys.parse_timestamp(latest.timestamp)
            standing = replace(
                standing,
                landed_at=at.isoformat(),
                age_seconds=round((now - at).total_seconds()),
                last_key=keys.format_data_key(known, latest.latest_row_id, latest.timestamp),
                last_rows=latest.rows_ingested,
            )
        if table not in tables_without_changes(settings.without_changes):
            standing = replace(standing, changes=get_change_state(known, bucket).number)
        standing = replace(standing, proof_days_behind=_days_behind(known, bucket, now))
        date = f"{now:%Y-%m-%d}"
        rows = rows_of(known, date, latest.latest_row_id, bucket)
        standing = replace(standing, rows_today=rows)
        if standing.rows_today is None:
            notes.append(
                f"{table}: more than {MOST_OBJECTS} objects today; their rows are not counted."
            )
    except PipelineError as error:
        notes.append(f"{table}: {error}")
    return standing, notes


def _days_behind(table: Table, bucket: Bucket, now: datetime) -> int | None:
    """Return for how long the nightly proof is behind; None if there was none yet."""
    inventory = get_pointer(keys.format_inventory_key(table), parse, bucket).value
    if not inventory or not inventory.shards:
        return None
    return max(0, now.toordinal() - min(each.due for each in inventory.shards))


def rows_of(table: Table, date: str, last: int, bucket: Bucket) -> int | None:
    """Return how many rows of a table landed on the last day; None if in too many objects.

    The newest objects have the highest ids. So they are listed backwards, ten times as far each
    time, until there is one of another day.
    """
    begin, found, listed = last, set[str](), set[str]()
    while begin > 0 and len(found) == len(listed) <= MOST_OBJECTS:
        begin = max(0, last - 10 * max(100, last - begin))
        near = keys_near(keys.data_folder(table), begin, last, bucket)
        parsed = {key: keys.parse_data_key(key) for key in near if keys.is_data_key(key)}
        listed = {key for key, batch in parsed.items() if batch.row_id > begin}
        found = {key for key in listed if parsed[key].timestamp.startswith(date)}
    if len(found) > MOST_OBJECTS:
        return None
    return sum(int((bucket.metadata(key) or {}).get("rows", 0)) for key in found)


def _in_source(settings: Settings, notes: list[str]) -> Mapping[str, int]:
    """Return the highest ids in the database, table by table: one that fails hides no other."""
    highest: dict[str, int] = {}
    try:
        with database_session(settings) as connection:
            for table in TABLES:
                try:
                    highest |= read_highest_ids([Table(table)], connection)
                except PipelineError as error:
                    notes.append(f"Source of {table}: {error}")
    except PipelineError as error:
        notes.append(f"Source: {error}")
    return highest


def _held_back(function_name: str, now: datetime, notes: list[str]) -> Mapping[str, int]:
    """Return how many rows the newest log lines of each table say are held back."""
    client: Any = boto3.client("logs")
    since = now.astimezone(UTC) - timedelta(minutes=LOG_MINUTES)
    try:
        pages = client.get_paginator("filter_log_events").paginate(
            logGroupName=log_group(function_name),
            filterPattern='"Table ingested"',
            startTime=int(since.timestamp() * 1000),
            PaginationConfig={"MaxItems": MOST_LINES},
        )
        messages = [event["message"] for page in pages for event in page["events"]]
    except (BotoCoreError, ClientError) as error:
        notes.append(f"Held back: can't read the log: {error}")
        return {}
    lines = [json.loads(message) for message in messages if message.startswith("{")]
    if len({line["table"] for line in lines}) < len(TABLES):
        notes.append(
            f"Held back: unknown for tables without a run in the last {LOG_MINUTES} minutes."
        )
    return {line["table"]: line["held_back_rows"] for line in lines}
