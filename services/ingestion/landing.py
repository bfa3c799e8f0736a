"""The S3 side: where a table stands, and how its rows land exactly once.

Any run may die anywhere, and two may work on the same table. What keeps them exact is that a batch
gets its name before it is written, once and for ever, by writes that S3 refuses if the key exists:

1.  The batch above watermark p is claimed: `claims/<table>/<p>.json` holds the key of its object,
    and with it the id q of its last row. Whoever creates the claim has decided; all others read it.
2.  The rows above p up to q go to that key. If it exists, they have landed already.
3.  `latest.json` moves on to q, by compare-and-swap. It is a pointer that may lag behind.

All rows from p to q were settled (see `source`) when the claim was made, so whoever lands it lands
the same rows: a run that finds a claim without its object writes the object, and goes on behind it
with the rest of its own rows. A run whose rows don't reach q writes nothing: it was overtaken.
The claims are a chain, each beginning where the one before ends, and nothing is ever deleted: a
`latest.json` that lags or was put back is healed by walking the chain from it, a lost or very old
one from the highest id in the keys, and the chain from there. docs/exactness.md has the argument.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from services.ingestion import keys
from services.ingestion.tables import id_column
from shared.errors import StateError
from shared.objects import Bucket
from shared.telemetry import logger

if TYPE_CHECKING:
    import pandas as pd
    from mypy_boto3_s3 import S3Client

# A step along the chain takes two requests, a page of 1000 keys takes one.
_LONG_WALK = 100


@dataclass(frozen=True, slots=True)
class Latest:
    """What a table's `latest.json` says, or would have to say."""

    latest_row_id: int = 0
    timestamp: str = ""
    rows_ingested: int = 0


@dataclass(frozen=True, slots=True)
class Position:
    """Where a table stands in the bucket.

    Attributes:
        table: its name.
        latest: its last batch that landed.
        stored: its `latest.json` as it was read, None if there was none.
        etag: the version of `stored`.
        claimed: the key of the next batch, if somebody claimed it and it has not landed.
    """

    table: str
    latest: Latest
    stored: Latest | None
    etag: str | None
    claimed: str | None = None

    @property
    def row_id(self) -> int:
        """The watermark: the highest id that landed."""
        return self.latest.latest_row_id


@dataclass(frozen=True, slots=True)
class Landed:
    """One object that was written."""

    key: str
    rows: int
    bytes: int


def get_latest_id(table: str, client: S3Client, bucket_name: str) -> int:
    """Return the highest row id of a table that has landed, 0 if none ever was.

    Raises:
        LandingError: S3 refuses: no such bucket, no permission.
        LandingUnavailableError: S3 fails, is overloaded or can't be reached.
        StateError: the state in the bucket can't be understood.
    """
    return find_position(table, Bucket(client, bucket_name)).row_id


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
        LandingError, LandingUnavailableError, StateError: as `get_latest_id`.
    """
    lines = 0
    if len(data):
        bucket = Bucket(client, bucket_name)
        position, landed = land(find_position(table, bucket), data, bucket)
        save_position(position, bucket)
        lines = sum(batch.rows for batch in landed)
    return {
        "success": True,
        "message": f"{lines} lines of data successfully written to '{table}' table",
    }


def read_position(table: str, bucket: Bucket) -> Position:
    """Return what `latest.json` says, by one request; it may lag behind."""
    key = keys.latest_key(table)
    found = bucket.get(key)
    if found is None:
        return Position(table, Latest(), None, None)
    latest = _parse_latest(f"s3://{bucket.name}/{key}", found.body)
    return Position(table, latest, latest, found.etag)


def find_position(table: str, bucket: Bucket) -> Position:
    """Return where a table really stands, from `latest.json`, the claims and, if need be, the keys.

    Raises:
        LandingError, LandingUnavailableError, StateError: as `get_latest_id`.
    """
    return heal_position(read_position(table, bucket), bucket)


def heal_position(position: Position, bucket: Bucket) -> Position:
    """Return where the table really stands, given what its `latest.json` says."""
    healed = position
    for step in count():
        if step == (0 if position.stored is None else _LONG_WALK):
            healed = replace(healed, latest=_latest_of_keys(position.table, bucket))
        claimed = _claim(healed, bucket)
        metadata = bucket.metadata(claimed) if claimed else None
        if claimed is None or metadata is None:
            healed = replace(healed, claimed=claimed)
            break
        healed = replace(healed, latest=_latest_of(claimed, metadata))
    if healed.latest != position.latest:
        logger().warning(
            "latest.json was behind what has landed, and is mended",
            extra={
                "table": position.table,
                "latest_row_id": position.row_id,
                "landed_row_id": healed.row_id,
            },
        )
    return healed


def land(position: Position, data: pd.DataFrame, bucket: Bucket) -> tuple[Position, list[Landed]]:
    """Land the rows above the position; `save_position` is the caller's to call.

    Args:
        position: where the table stands.
        data: all rows above the position, up to its last one.
        bucket: where to.

    Returns:
        The position behind what has landed, and the objects that this call has written. Both stop
        short of the rows if another run has claimed a batch that they don't fill.
    """
    id_name = id_column(position.table)
    if not data[id_name].is_monotonic_increasing:
        data = data.sort_values(id_name, ignore_index=True)
    last = int(data[id_name].iloc[-1]) if len(data) else 0
    landed: list[Landed] = []
    while last > position.row_id:
        # Before the claim: rows that can't be rendered, or not within memory, are not claimed.
        rendered = _render(position, last, data)
        key = position.claimed or _claim_batch(position, last, bucket)
        if claimed_row_id(key) > last:
            return replace(position, claimed=key), landed
        if claimed_row_id(key) < last:
            rendered = _render(position, claimed_row_id(key), data)
        position, batch = _put(position, key, rendered, bucket)
        landed += batch
    return position, landed


def land_claimed(
    position: Position, key: str, data: pd.DataFrame, bucket: Bucket
) -> tuple[Position, list[Landed]]:
    """Land, of these rows, those that the claimed key stands for; as `land`."""
    return _put(position, key, _render(position, claimed_row_id(key), data), bucket)


def _render(position: Position, last: int, data: pd.DataFrame) -> tuple[int, bytes]:
    """Return how many rows lie above the position up to an id, and these rows as JSON lines."""
    from shared.jsonlines import to_json_lines

    ids = data[id_column(position.table)]
    rows = data[(ids > position.row_id) & (ids <= last)]
    return len(rows), to_json_lines(rows)


def _put(
    position: Position, key: str, rendered: tuple[int, bytes], bucket: Bucket
) -> tuple[Position, list[Landed]]:
    rows, body = rendered
    created = bucket.create(key, body, {"rows": str(rows)})
    landed = [Landed(key, rows, len(body))] if created else []
    name = keys.parse_data_key(key)
    latest = Latest(name.row_id, name.timestamp, rows)
    return replace(position, latest=latest, claimed=None), landed


def claimed_row_id(key: str) -> int:
    """Return the last id of the batch a claimed key stands for."""
    return keys.parse_data_key(key).row_id


def save_position(position: Position, bucket: Bucket) -> Position:
    """Write `latest.json`, unless it says so already or another run has moved it further on."""
    body = {
        "latest_row_id": position.latest.latest_row_id,
        "timestamp": position.latest.timestamp,
        "rows_ingested": position.latest.rows_ingested,
    }
    text = json.dumps(body, indent=4).encode()
    while position.row_id > (position.stored or Latest()).latest_row_id:
        etag = bucket.replace(keys.latest_key(position.table), text, position.etag)
        if etag:
            return replace(position, stored=position.latest, etag=etag)
        now = read_position(position.table, bucket)
        position = replace(position, stored=now.stored, etag=now.etag)
    return position


def _claim(position: Position, bucket: Bucket) -> str | None:
    """Return the key claimed for the batch above the position, None if there is no claim."""
    claim = keys.claim_key(position.table, position.row_id)
    found = bucket.get(claim)
    return None if found is None else _parse_claim(claim, found.body, position)


def _claim_batch(position: Position, row_id: int, bucket: Bucket) -> str:
    """Claim the batch above the position; return its key, by us or by whoever was first."""
    key = keys.format_data_key(position.table, row_id, keys.timestamp_now())
    claim = keys.claim_key(position.table, position.row_id)
    if bucket.create(claim, json.dumps({"key": key}).encode()):
        return key
    theirs = _claim(position, bucket)
    if theirs is None:
        raise StateError(f"s3://{bucket.name}/{claim} was there and is gone. Never delete claims.")
    return theirs


def _latest_of_keys(table: str, bucket: Bucket) -> Latest:
    """Return the batch with the highest id among a table's objects."""
    found = [
        (parsed.row_id, key)
        for key in bucket.keys(f"{table}/")
        if (parsed := keys.parse_data_key(key) if keys.is_data_key(key) else None)
    ]
    if not found:
        return Latest()
    _, key = max(found)
    return _latest_of(key, bucket.metadata(key) or {})


def _latest_of(key: str, metadata: Any) -> Latest:
    parsed = keys.parse_data_key(key)
    return Latest(parsed.row_id, parsed.timestamp, int(metadata.get("rows", 0)))


def _parse_latest(place: str, body: bytes) -> Latest:
    try:
        fields = json.loads(body)
        latest = Latest(fields["latest_row_id"], fields["timestamp"], fields["rows_ingested"])
    except (ValueError, KeyError, TypeError):
        latest = None
    if latest is None or type(latest.latest_row_id) is not int or latest.latest_row_id < 0:
        raise StateError(
            f"{place} is not what we write. Restore an older version of it, or delete it: "
            "it is rebuilt from the keys and claims."
        )
    return latest


def _parse_claim(claim: str, body: bytes, position: Position) -> str:
    try:
        key: str = json.loads(body)["key"]
        parsed = keys.parse_data_key(key)
    except (ValueError, KeyError, TypeError, StateError):
        parsed = None
    if parsed is None or parsed.table != position.table or parsed.row_id <= position.row_id:
        raise StateError(f"{claim} is not a claim of ours. Restore the older version of it.")
    return key
