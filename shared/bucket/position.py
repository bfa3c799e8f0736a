"""Where a table stands in the bucket: by its `latest.json` and, where that lags, by its claims.

`latest.json` is a pointer that may lag behind (see `services.ingestion.land`). It is read first,
healed by following the chain of claims from there, and updated by compare-and-swap. Only "no such
key" ever means that nothing has landed yet.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

from shared.bucket import keys
from shared.bucket.pointer import get_pointer, move_pointer
from shared.errors import StateError
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bucket.bucket import Bucket
    from shared.bucket.pointer import Pointer
    from shared.tables import Table

# After so many steps from claim to claim the keys are listed: a page of 1,000 takes one request.
LONG_WALK = 100


@dataclass(frozen=True, slots=True)
class Latest:
    """The last batch that landed, as a table's `latest.json` describes it."""

    latest_row_id: int = 0
    timestamp: str = ""
    rows_ingested: int = 0

    @property
    def age_seconds(self) -> int:
        """How many seconds ago the batch was claimed, at least 1; 1 if nothing has landed."""
        return keys.seconds_since(self.timestamp) if self.timestamp else 1

    def content(self) -> dict[str, Any]:
        """Return what the file holds."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Position:
    """Where a table stands in the bucket.

    Attributes:
        table: the table.
        latest: its last batch that landed.
        pointer: its `latest.json` as it was read.
        claimed: the key of the next batch, if it is claimed and has not landed.
    """

    table: Table
    latest: Latest
    pointer: Pointer[Latest]
    claimed: str | None = None

    @property
    def row_id(self) -> int:
        """The watermark: the highest id that has landed."""
        return self.latest.latest_row_id

    def is_behind(self, highest_id: int | None) -> bool:
        """Tell whether rows up to an id would be news; below the watermark no row can be.

        If the id is not known, there may be some.
        """
        return highest_id is None or self.row_id < highest_id


def get_position(table: Table, bucket: Bucket) -> Position:
    """Return the position that `latest.json` says, by one request; it may lag behind.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_pointer`.
    """
    pointer = get_pointer(keys.format_latest_key(table), _parse_latest, bucket)
    return Position(table, pointer.value or Latest(), pointer)


def heal_position(position: Position, bucket: Bucket) -> Position:
    """Return the true position of a table, given the one in its `latest.json`.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_position`.
    """
    healed = position
    for step in count():
        if step == (0 if position.pointer.value is None else LONG_WALK):
            healed = replace(healed, latest=_list_latest(position.table, bucket))
        claimed = get_claim(position.table, healed.row_id, bucket)
        metadata = bucket.metadata(claimed) if claimed else None
        if claimed is None or metadata is None:
            healed = replace(healed, claimed=claimed)
            break
        healed = replace(healed, latest=_latest_of(claimed, metadata))
    if healed.latest != position.latest:
        logger().warning(
            "latest.json lagged behind what has landed; this run repairs it",
            extra={
                "table": position.table.name,
                "latest_row_id": position.row_id,
                "landed_row_id": healed.row_id,
            },
        )
    return healed


def find_position(table: Table, bucket: Bucket) -> Position:
    """Return the true position of a table: `get_position` and `heal_position` in one.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_position`.
    """
    return heal_position(get_position(table, bucket), bucket)


def save_position(position: Position, bucket: Bucket) -> Position:
    """Write `latest.json`, unless it is there already, or further because of another run.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_position`.
    """
    while position.row_id > (position.pointer.value or Latest()).latest_row_id:
        moved = move_pointer(position.pointer, position.latest, bucket)
        if moved:
            return replace(position, pointer=moved)
        position = replace(position, pointer=get_position(position.table, bucket).pointer)
    return position


def get_claim(table: Table, row_id: int, bucket: Bucket) -> str | None:
    """Return the key that is claimed for the batch above `row_id`, None if there is no claim.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_position`.
    """
    claim = keys.format_claim_key(table, row_id)
    found = bucket.get(claim)
    return None if found is None else _parse_claim(claim, found.body, table, row_id)


def find_claim(table: Table, row_id: int, bucket: Bucket) -> int | None:
    """Return the id that the claim begins above whose batch has an id, None if there is no claim.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    found = filter(keys.is_claim_key, bucket.keys(keys.claim_folder(table)))
    starts = (keys.parse_claim_key(key).row_id for key in found)
    return max((start for start in starts if start < row_id), default=None)


def _list_latest(table: Table, bucket: Bucket) -> Latest:
    """Return the batch with the highest id among a table's objects."""
    found = [
        (keys.parse_data_key(key).row_id, key)
        for key in bucket.keys(keys.data_folder(table))
        if keys.is_data_key(key)
    ]
    if not found:
        return Latest()
    _, key = max(found)
    return _latest_of(key, bucket.metadata(key) or {})


def _latest_of(key: str, metadata: Mapping[str, str]) -> Latest:
    parsed = keys.parse_data_key(key)
    return Latest(parsed.row_id, parsed.timestamp, int(metadata.get("rows", 0)))


def _parse_latest(content: Any) -> Latest:
    latest = Latest(content["latest_row_id"], content["timestamp"], content["rows_ingested"])
    if type(latest.latest_row_id) is not int or latest.latest_row_id < 0:
        raise ValueError("latest_row_id")
    return latest


def _parse_claim(claim: str, body: bytes, table: Table, row_id: int) -> str:
    try:
        key: str = json.loads(body)["key"]
        parsed = keys.parse_data_key(key)
    except (ValueError, KeyError, TypeError, StateError):
        parsed = None
    if parsed is None or parsed.table != table or parsed.row_id <= row_id:
        raise StateError(
            f"{claim} is not a valid claim. Restore it: docs/operating.md, Restore an object."
        )
    return key
