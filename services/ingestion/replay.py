"""Landing a range of a table's rows again, as they are now, beside what has landed.

A replay reads the state in the bucket and changes none of it: no watermark, no claim, no change
stream. All rows up to the watermark are settled (see `source`), so a range of them can be read at
any time. The rows above it are not landed *again*, and come by themselves: a replay ends there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from services.ingestion import keys, source
from services.ingestion.contracts import Inspector
from services.ingestion.positions import find_position
from services.ingestion.tables import TABLES, id_column
from shared.errors import EventError
from shared.objects import Bucket
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    import pandas as pd
    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Range:
    """Rows of a table: those with an id above `from_row_id` up to and including `to_row_id`."""

    table: str
    from_row_id: int
    to_row_id: int


@dataclass(slots=True)
class _Replayed:
    """What a replay has landed so far: all there is up to an id."""

    up_to: int
    rows: int = 0
    bytes: int = 0
    keys: list[str] = field(default_factory=list)


def requested_range(event: object) -> Range | None:
    """Return the rows that an event wants to have replayed, None if it is no such event.

    Raises:
        EventError: it is one, and does not say which rows.
    """
    if not isinstance(event, dict) or "replay" not in event:
        return None
    asked = event["replay"]
    named = isinstance(asked, dict) and asked.keys() == {"table", "from_row_id", "to_row_id"}
    if len(event) > 1 or not named:
        raise EventError(
            'To land rows again the event must be {"replay": {"table": "payment", "from_row_id": '
            '0, "to_row_id": 500}}: those with an id above the first, up to the second.'
        )
    table, *bounds = asked["table"], asked["from_row_id"], asked["to_row_id"]
    if table not in TABLES:
        raise EventError(f"No table of ours: {table!r}. There are {', '.join(TABLES)}.")
    if not all(type(bound) is int and bound in _INT64 for bound in bounds):
        raise EventError(f"from_row_id and to_row_id must be integers of 64 bits, not {bounds}.")
    if bounds[0] >= bounds[1]:
        raise EventError(
            f"There is no id above {bounds[0]} up to {bounds[1]}. The row from_row_id is left out, "
            "like the row at a watermark: for the row 5 alone ask from 4 to 5."
        )
    return Range(table, *bounds)


def replay(
    wanted: Range,
    client: S3Client,
    connection: Connection,
    bucket_name: str,
    batch_rows: int,
    seconds_left: Callable[[], float],
) -> dict[str, Any]:
    """Land rows that have landed once more, under `replays/`, in batches.

    Args:
        wanted: which; those above the table's watermark are left out.
        client: boto3 client of S3.
        connection: a session of the database, in autocommit.
        bucket_name: where to.
        batch_rows: rows of one object, at most.
        seconds_left: tells how long this may go on; no batch is begun at 0.

    Returns:
        `rows`, `bytes` and `keys` that landed, `to_row_id` up to where they were asked for and have
        landed before, and `next_from_row_id` to go on from if time was up, else None.

    Raises:
        SourceError, SourceUnavailableError: as `get_table_data`.
        LandingError, LandingUnavailableError, StateError: as `find_position`.
    """
    bucket, inspector = Bucket(client, bucket_name), Inspector(wanted.table)
    end = min(wanted.to_row_id, find_position(wanted.table, bucket).row_id)
    timestamp, done = keys.timestamp_now(), _Replayed(wanted.from_row_id)
    while done.up_to < end and seconds_left() > 0:
        rows = source.get_settled_rows(wanted.table, done.up_to, end, connection, batch_rows)
        inspector.inspect(rows)
        up_to = int(rows[id_column(wanted.table)].iloc[-1]) if rows.attrs["more"] else end
        if len(rows):
            key = keys.format_replay_key(wanted.table, timestamp, done.up_to, up_to)
            _land(key, rows, bucket, done)
        done.up_to = up_to
    summary = {
        "table": wanted.table,
        "rows": done.rows,
        "bytes": done.bytes,
        "from_row_id": wanted.from_row_id,
        "to_row_id": end,
        "next_from_row_id": done.up_to if done.up_to < end else None,
        "contract_violations": len(inspector.reported),
        "keys": done.keys,
    }
    logger().info("Table replayed", extra=summary)
    return summary


def _land(key: str, rows: pd.DataFrame, bucket: Bucket, done: _Replayed) -> None:
    """Write an object; if it is there, this very range was replayed in this very second."""
    from shared.jsonlines import to_json_lines

    body = to_json_lines(rows)
    bucket.create(key, body, {"rows": str(len(rows))})
    done.keys.append(key)
    done.rows += len(rows)
    done.bytes += len(body)
