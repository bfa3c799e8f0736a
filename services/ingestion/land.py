"""How the rows of a table land exactly once.

A run may crash anywhere, and two runs may overlap. They stay exact because a batch gets its name
before it is written, once and for ever, by writes that S3 refuses if the key exists:

1.  The batch above watermark p is claimed: `claims/<table>/<p>.json` holds the key of its object,
    and with it the id q of its last row. The run that creates the claim decides; all others read
    it.
2.  The rows above p up to q go to that key. If it exists, they have landed already.
3.  `latest.json` moves to q, by compare-and-swap. It is a pointer that may lag behind.

Every id from p to q was settled (see `new_rows`) before the claim was made, so every run that lands
the batch lands the same rows. A run that finds a claim without its object writes the object, and
continues after it with the rest of its own rows. A run whose rows don't reach q was overtaken and
writes nothing. The claims form a chain, each beginning where the previous one ends, and nothing is
ever deleted. So a `latest.json` that lags, was restored or is lost is healed by following the chain
from it, up to the first claim without its object: a load claims many batches beforehand, which land
in any order. docs/exactness.md has the argument.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shared.bucket import keys
from shared.bucket.bucket import Bucket, Landed
from shared.bucket.chain import claim_batch
from shared.bucket.position import Latest, Position, find_position, save_position
from shared.jsonlines import render
from shared.tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from mypy_boto3_s3 import S3Client

    from shared.lines import Lines


def get_latest_id(table: str, client: S3Client, bucket_name: str) -> int:
    """Return the id up to which all rows of a table have landed, 0 if none has.

    Raises:
        LandingError: S3 refuses: no such bucket, no permission.
        LandingUnavailableError: S3 fails, is overloaded or can't be reached.
        StateError: an object that holds the table's state is not valid.
    """
    return find_position(Table(table), Bucket(client, bucket_name)).row_id


def write_table_data(
    table: str, data: pd.DataFrame, client: S3Client, bucket_name: str
) -> dict[str, Any]:
    """Write rows as JSON lines and move `latest.json` to the last of them.

    Rows at or below the table's watermark have landed and are left out. An empty frame writes
    nothing, and neither do rows that end within a batch that another run has claimed. `data` must
    have all rows above the watermark up to its last one, as `get_table_data` returns them.

    Returns:
        `{"success": True, "message": "35 lines of data successfully written to 'address' table"}`

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_latest_id`.
        TypeError: a value has no exact JSON form; nothing was written.
    """
    lines = 0
    if len(data):
        bucket = Bucket(client, bucket_name)
        position, landed = land_rows(find_position(Table(table), bucket), data, bucket)
        save_position(position, bucket)
        lines = sum(batch.rows for batch in landed)
    return {
        "success": True,
        "message": f"{lines} lines of data successfully written to '{table}' table",
    }


def land_rows(
    position: Position, rows: pd.DataFrame, bucket: Bucket, highest_id: int | None = None
) -> tuple[Position, list[Landed]]:
    """Land the rows above the position; the caller then calls `save_position`.

    Args:
        position: where the table stands.
        rows: all rows above the position, up to the last of them.
        bucket: the bucket to land in.
        highest_id: the table's highest id as it was read before; None if that is not known, which
            takes more requests.

    Returns:
        The position after what has landed, and the objects that this call has written. Both end
        before the last row if another run has claimed a batch that the rows don't fill.

    Raises:
        LandingError, LandingUnavailableError, StateError, TypeError: see `write_table_data`.
    """
    id_column = position.table.id_column
    if not rows[id_column].is_monotonic_increasing:
        rows = rows.sort_values(id_column, ignore_index=True)
    last = int(rows[id_column].iloc[-1]) if len(rows) else 0
    landed: list[Landed] = []
    while last > position.row_id:
        # Before the claim, so that rows that can't be rendered, or not in memory, are not claimed.
        lines = _render(position, last, rows)
        key, is_ours = position.claimed, False
        if key is None:
            key, is_ours = claim_batch(
                position.table, position.row_id, last, highest_id, bucket, is_end=position.is_end
            )
        position = replace(position, is_end=is_ours)
        if claimed_row_id(key) > last:
            return replace(position, claimed=key), landed
        if claimed_row_id(key) < last:
            lines = _render(position, claimed_row_id(key), rows)
        position, batch = _put(position, key, lines, bucket)
        landed += batch
    return position, landed


def position_after(position: Position, key: str, rows: int) -> Position:
    """Return the position after the batch has landed that is claimed under this key."""
    parsed = keys.parse_data_key(key)
    latest = Latest(parsed.row_id, parsed.timestamp, rows)
    return replace(position, latest=latest, claimed=None)


def claimed_row_id(key: str) -> int:
    """Return the last id of the batch that is claimed under this key."""
    return keys.parse_data_key(key).row_id


def _render(position: Position, last: int, rows: pd.DataFrame) -> Lines:
    """Return the rows above the position up to an id as JSON lines."""
    ids = rows[position.table.id_column].to_numpy()
    begin, end = ids.searchsorted([position.row_id, last], side="right")
    return render(rows.iloc[begin:end])


def _put(
    position: Position, key: str, lines: Lines, bucket: Bucket
) -> tuple[Position, list[Landed]]:
    landed = bucket.put_rows(key, lines)
    return position_after(position, key, lines.rows), [landed] if landed else []
