"""How the rows of a table land exactly once.

Any run may die anywhere, and two may work on the same table. What keeps them exact is that a batch
gets its name before it is written, once and for ever, by writes that S3 refuses if the key exists:

1.  The batch above watermark p is claimed: `claims/<table>/<p>.json` holds the key of its object,
    and with it the id q of its last row. Whoever creates the claim has decided; all others read it.
2.  The rows above p up to q go to that key. If it exists, they have landed already.
3.  `latest.json` moves on to q, by compare-and-swap. It is a pointer that may lag behind.

All rows from p to q were settled (see `new_rows`) when the claim was made, so whoever lands it
lands the same rows: a run that finds a claim without its object writes the object, and goes on
behind it with the rest of its own rows. A run whose rows don't reach q writes nothing: it was
overtaken. The claims are a chain, each beginning where the one before ends, and nothing is ever
deleted: a `latest.json` that lags or was put back is healed by walking the chain from it, a lost or
very old one from the highest id in the keys, and the chain from there. docs/exactness.md has the
argument.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from shared.bucket import keys
from shared.bucket.bucket import Bucket, Landed
from shared.bucket.position import Latest, Position, find_position, get_claim, save_position
from shared.errors import StateError
from shared.jsonlines import Lines, render
from shared.tables import Table

if TYPE_CHECKING:
    import pandas as pd
    from mypy_boto3_s3 import S3Client


def get_latest_id(table: str, client: S3Client, bucket_name: str) -> int:
    """Return the highest row id of a table that has landed, 0 if none ever did.

    Raises:
        LandingError: S3 refuses: no such bucket, no permission.
        LandingUnavailableError: S3 fails, is overloaded or can't be reached.
        StateError: the state in the bucket can't be understood.
    """
    return find_position(Table(table), Bucket(client, bucket_name)).row_id


def write_table_data(
    table: str, data: pd.DataFrame, client: S3Client, bucket_name: str
) -> dict[str, Any]:
    """Write rows as JSON lines and move `latest.json` on to the last of them.

    Rows at or below the table's watermark are left out: they have landed. An empty frame writes
    nothing, and so do rows that end within a batch that another run has claimed. The rows must be
    all there are above the watermark up to the last one, as `get_table_data` returns them.

    Returns:
        `{"success": True, "message": "35 lines of data successfully written to 'address' table"}`

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_latest_id`.
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
    position: Position, rows: pd.DataFrame, bucket: Bucket
) -> tuple[Position, list[Landed]]:
    """Land the rows above the position; `save_position` is the caller's to call.

    Args:
        position: where the table stands.
        rows: all rows above the position, up to its last one.
        bucket: where to.

    Returns:
        The position behind what has landed, and the objects that this call has written. Both stop
        short of the rows if another run has claimed a batch that they don't fill.
    """
    id_column = position.table.id_column
    if not rows[id_column].is_monotonic_increasing:
        rows = rows.sort_values(id_column, ignore_index=True)
    last = int(rows[id_column].iloc[-1]) if len(rows) else 0
    landed: list[Landed] = []
    while last > position.row_id:
        # Before the claim: rows that can't be rendered, or not within memory, are not claimed.
        lines = _render(position, last, rows)
        key = position.claimed or _claim_batch(position, last, bucket)
        if claimed_row_id(key) > last:
            return replace(position, claimed=key), landed
        if claimed_row_id(key) < last:
            lines = _render(position, claimed_row_id(key), rows)
        position, batch = _put(position, key, lines, bucket)
        landed += batch
    return position, landed


def land_claimed(
    position: Position, key: str, rows: pd.DataFrame, bucket: Bucket
) -> tuple[Position, list[Landed]]:
    """Land, of these rows, those that the claimed key stands for; otherwise see `land_rows`."""
    return _put(position, key, _render(position, claimed_row_id(key), rows), bucket)


def claimed_row_id(key: str) -> int:
    """Return the last id of the batch a claimed key stands for."""
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
    said = keys.parse_data_key(key)
    latest = Latest(said.row_id, said.timestamp, lines.rows)
    return replace(position, latest=latest, claimed=None), [landed] if landed else []


def _claim_batch(position: Position, row_id: int, bucket: Bucket) -> str:
    """Claim the batch above the position; return its key, ours or that of whoever was first."""
    table = position.table
    key = keys.format_data_key(table, row_id, keys.timestamp_now())
    claim = keys.format_claim_key(table, position.row_id)
    if bucket.create(claim, json.dumps({"key": key}).encode()):
        return key
    theirs = get_claim(table, position.row_id, bucket)
    if theirs is None:
        raise StateError(
            f"s3://{bucket.name}/{claim} existed a moment ago and is missing. Never delete claims."
        )
    return theirs
