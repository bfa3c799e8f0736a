"""Replays: a range of a table's rows goes into its change stream, as the rows are now.

All ids up to the watermark are settled (see `new_rows`), so a range of them can be read at any
time. Rows above the watermark have yet to land for the first time, so a replay ends there. How its
objects keep the stream exact is in `shared.bucket.additions`. Ids of which the source has no row
are not its matter: the reconciliation says which rows were deleted.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.bucket.additions import Additions
from shared.bucket.bucket import Bucket, Landed
from shared.bucket.changes import get_change_state, heal_change_state
from shared.bucket.position import find_position
from shared.contracts.check import Inspector
from shared.contracts.contract import personal_data
from shared.errors import EventError
from shared.jsonlines import render
from shared.postgres.reader import read_settled_rows
from shared.postgres.survey import read_survey
from shared.tables import TABLES, Table
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    from shared.personal import PersonalData

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Range:
    """Rows of a table: those with an id above `from_row_id` up to and including `to_row_id`."""

    table: str
    from_row_id: int
    to_row_id: int


def requested_range(event: dict[str, Any]) -> Range:
    """Return the range that an event asks to replay.

    Raises:
        EventError: the event names no known table, or no range of ids.
    """
    asked = event["replay"]
    named = isinstance(asked, dict) and asked.keys() == {"table", "from_row_id", "to_row_id"}
    if len(event) > 1 or not named:
        raise EventError(
            'To replay rows, the event must be {"replay": {"table": "payment", "from_row_id": 0, '
            '"to_row_id": 500}}. That replays the rows with an id above 0, up to 500.'
        )
    table, *bounds = asked["table"], asked["from_row_id"], asked["to_row_id"]
    if table not in TABLES:
        raise EventError(f"Unknown table: {table!r}. The tables are {', '.join(TABLES)}.")
    if not all(type(bound) is int and bound in _INT64 for bound in bounds):
        raise EventError(f"from_row_id and to_row_id must be 64-bit integers, not {bounds}.")
    if bounds[0] < 0:
        raise EventError("from_row_id must not be below 0: ids below 1 are in neither stream.")
    if bounds[0] >= bounds[1]:
        raise EventError(
            f"There is no id above {bounds[0]} up to {bounds[1]}. The row from_row_id itself is "
            "not replayed: to replay row 5 alone, ask for 4 to 5."
        )
    return Range(table, *bounds)


def refuse_without_changes(table: str, without_changes: Collection[str]) -> None:
    """Refuse to put rows into the change stream of a table that has none.

    Raises:
        EventError: the table is among those without a change stream.
    """
    if table in without_changes:
        raise EventError(
            f"{table!r} has no change stream that rows could be put into: `withoutChanges` names "
            "it. Take it out there, and deploy: the next run delivers every row once more."
        )


def replay(
    wanted: Range,
    client: S3Client,
    connection: Connection,
    bucket_name: str,
    batch_rows: int,
    seconds_left: Callable[[], float],
    *,
    hash_key: str | None = None,
) -> dict[str, Any]:
    """Put rows that have landed into the change stream once more, as they are now, in batches.

    Args:
        wanted: the rows; those above the table's watermark are left out.
        client: boto3 client of S3.
        connection: a session of the database, in autocommit.
        bucket_name: the bucket to land in.
        batch_rows: how many rows an object holds at most.
        seconds_left: returns how long this may go on; no batch is begun once it returns 0.
        hash_key: the key of the hashes that land in place of personal data.

    Returns:
        `rows`, `bytes` and `keys` that landed; `to_row_id`, which is the watermark if more was
        asked for; and `next_from_row_id` to continue from if time was up, else None.

    Raises:
        EventError: the table has no change stream yet, or the next run delivers every row anyway.
        ConfigError, SourceError, SourceUnavailableError: see `get_table_data`.
        LandingError, LandingUnavailableError, StateError: see `get_latest_id`.
    """
    table, bucket = Table(wanted.table), Bucket(client, bucket_name)
    personal = personal_data(table, hash_key)
    end = min(wanted.to_row_id, find_position(table, bucket).row_id)
    additions = open_additions(table, bucket, connection, personal)
    above, landed, inspector = wanted.from_row_id, list[Landed](), Inspector(table)
    while above < end and seconds_left() > 0:
        batch = read_settled_rows(table, above, end, connection, batch_rows, personal=personal)
        if len(batch.rows):
            put = additions.put(render(batch.rows))
            if put is None:
                additions.catch_up()
                continue
            inspector.inspect(batch)
            landed.append(put)
        above = batch.last_id if batch.more else end
    additions.save()
    summary = {
        "table": table.name,
        "rows": sum(each.rows for each in landed),
        "bytes": sum(each.bytes for each in landed),
        "from_row_id": wanted.from_row_id,
        "to_row_id": end,
        "next_from_row_id": above if above < end else None,
        "contract_violations": len(inspector.reported),
        "keys": [each.key for each in landed],
    }
    logger().info("Table replayed", extra=summary)
    return summary


def open_additions(
    table: Table, bucket: Bucket, connection: Connection, personal: PersonalData
) -> Additions:
    """Return what puts rows into a table's change stream; the rows are to be read after this.

    Raises:
        EventError: nothing can be put into it; the message says why, and what to do.
        SourceError, SourceUnavailableError: see `read_survey`.
        LandingError, LandingUnavailableError, StateError: see `get_change_state`.
    """
    state = get_change_state(table, bucket)
    mark = read_survey([table], connection, with_ids=False).marks.get(table.name)
    mark = mark and mark.landing(personal)
    additions = Additions(heal_change_state(state, bucket), mark, bucket)
    if additions.objection:
        raise EventError(
            f"Nothing can be put into the change stream of {table.name!r}: {additions.objection}. "
            f"If it can have one, let a run scan the table first: make ingest TABLES={table.name}."
        )
    return additions
