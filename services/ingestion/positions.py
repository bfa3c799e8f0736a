"""Where a table stands in the bucket: what latest.json says, or what claims and keys know better.

`latest.json` is a pointer that may lag behind (see `landing`): it is read first, healed by walking
the chain of claims from it, and moved on by compare-and-swap. Nothing but "no such key" ever means
that nothing has landed yet.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import TYPE_CHECKING

from services.ingestion import keys
from shared.errors import StateError
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.objects import Bucket

# A step along the chain takes two requests, a page of 1000 keys takes one.
_LONG_WALK = 100


@dataclass(frozen=True, slots=True)
class Latest:
    """What a table's `latest.json` says, or would have to say."""

    latest_row_id: int = 0
    timestamp: str = ""
    rows_ingested: int = 0

    @property
    def age_seconds(self) -> int:
        """How long ago it was, at least 1; 1 if nothing ever landed."""
        return keys.seconds_since(self.timestamp) if self.timestamp else 1

    def to_json(self) -> bytes:
        """Return the file's content."""
        return json.dumps(asdict(self), indent=4).encode()


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


def read_position(table: str, bucket: Bucket) -> Position:
    """Return what `latest.json` says, by one request; it may lag behind.

    Raises:
        LandingError, LandingUnavailableError: as all of `Bucket`.
        StateError: it can't be understood.
    """
    key = keys.latest_key(table)
    found = bucket.get(key)
    if found is None:
        return Position(table, Latest(), None, None)
    latest = _parse_latest(f"s3://{bucket.name}/{key}", found.body)
    return Position(table, latest, latest, found.etag)


def heal_position(position: Position, bucket: Bucket) -> Position:
    """Return where the table really stands, given what its `latest.json` says.

    Raises:
        LandingError, LandingUnavailableError, StateError: as `read_position`.
    """
    healed = position
    for step in count():
        if step == (0 if position.stored is None else _LONG_WALK):
            healed = replace(healed, latest=_latest_of_keys(position.table, bucket))
        claimed = read_claim(healed, bucket)
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


def find_position(table: str, bucket: Bucket) -> Position:
    """Return where a table really stands; `read_position` and `heal_position` in one."""
    return heal_position(read_position(table, bucket), bucket)


def save_position(position: Position, bucket: Bucket) -> Position:
    """Write `latest.json`, unless it says so already or another run has moved it further on.

    Raises:
        LandingError, LandingUnavailableError, StateError: as `read_position`.
    """
    while position.row_id > (position.stored or Latest()).latest_row_id:
        key = keys.latest_key(position.table)
        etag = bucket.replace(key, position.latest.to_json(), position.etag)
        if etag:
            return replace(position, stored=position.latest, etag=etag)
        now = read_position(position.table, bucket)
        position = replace(position, stored=now.stored, etag=now.etag)
    return position


def read_claim(position: Position, bucket: Bucket) -> str | None:
    """Return the key claimed for the batch above the position, None if there is no claim.

    Raises:
        LandingError, LandingUnavailableError, StateError: as `read_position`.
    """
    claim = keys.claim_key(position.table, position.row_id)
    found = bucket.get(claim)
    return None if found is None else _parse_claim(claim, found.body, position)


def _latest_of_keys(table: str, bucket: Bucket) -> Latest:
    """Return the batch with the highest id among a table's objects."""
    found = [
        (keys.parse_data_key(key).row_id, key)
        for key in bucket.keys(f"{table}/")
        if keys.is_data_key(key)
    ]
    if not found:
        return Latest()
    _, key = max(found)
    return _latest_of(key, bucket.metadata(key) or {})


def _latest_of(key: str, metadata: Mapping[str, str]) -> Latest:
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
