"""Replays: a range of a table's rows lands again, as it is now, beside what has landed.

A replay reads the state in the bucket and changes none of it: no watermark, claim or change stream.
All ids up to the watermark are settled (see `new_rows`), so a range of them can be read at any
time. Rows above the watermark have yet to land for the first time, so a replay ends there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.bucket import keys
from shared.bucket.bucket import Bucket, Landed
from shared.bucket.position import find_position
from shared.contracts.check import Inspector
from shared.contracts.contract import personal_data
from shared.errors import EventError
from shared.jsonlines import render
from shared.postgres.reader import read_settled_rows
from shared.tables import TABLES, Table
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

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
    if bounds[0] >= bounds[1]:
        raise EventError(
            f"There is no id above {bounds[0]} up to {bounds[1]}. The row from_row_id itself is "
            "not replayed: to replay row 5 alone, ask for 4 to 5."
        )
    return Range(table, *bounds)


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
    """Land rows again that have landed before, under `replays/`, in batches.

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
        ConfigError, SourceError, SourceUnavailableError: see `get_table_data`.
        LandingError, LandingUnavailableError, StateError: see `get_latest_id`.
    """
    table, bucket = Table(wanted.table), Bucket(client, bucket_name)
    personal = personal_data(table, hash_key)
    inspector, timestamp = Inspector(table), keys.timestamp_now()
    end = min(wanted.to_row_id, find_position(table, bucket).row_id)
    above, landed = wanted.from_row_id, list[Landed]()
    while above < end and seconds_left() > 0:
        batch = read_settled_rows(table, above, end, connection, batch_rows, personal=personal)
        inspector.inspect(batch)
        up_to = batch.last_id if batch.more else end
        if len(batch.rows):
            key = keys.format_replay_key(table, timestamp, above, up_to)
            lines = render(batch.rows)
            # If the key exists, this very range was replayed in this very second.
            bucket.put_rows(key, lines)
            landed.append(Landed(key, lines.rows, len(lines.body)))
        above = up_to
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
