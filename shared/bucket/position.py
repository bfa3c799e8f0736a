"""Where a table stands in the bucket: by its `latest.json` and, where that lags, by its claims.

`latest.json` is a pointer that may lag behind (see `services.ingestion.land`). It is read first,
healed by following the chain of claims from there, and updated by compare-and-swap. Only "no such
key" ever means that nothing has landed yet.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from shared.bucket import keys
from shared.bucket.chain import LONG_WALK, follow_claims
from shared.bucket.pointer import get_pointer, move_pointer
from shared.telemetry import logger

if TYPE_CHECKING:
    from shared.bucket.bucket import Bucket
    from shared.bucket.pointer import Pointer
    from shared.tables import Table


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
        is_end: whether it is known that nothing is claimed behind it, see `chain.check_end`.
    """

    table: Table
    latest: Latest
    pointer: Pointer[Latest]
    claimed: str | None = None
    is_end: bool = False

    @property
    def row_id(self) -> int:
        """The watermark: all rows up to this id have landed."""
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
        LandingError, LandingUnavailableError: see `get_position`.
        StateError: a claim is not valid; or one is missing, as far as claims were listed.
    """
    healed = follow_position(position, bucket)
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


def follow_position(position: Position, bucket: Bucket) -> Position:
    """Return the position at the end of what has landed without a hole, beginning at another one.

    Batches may have landed behind one that is claimed and has not: they count once it has.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `heal_position`.
    """
    last = claimed = None
    most_steps = 0 if position.pointer.value is None else LONG_WALK
    for batch in follow_claims(position.table, position.row_id, bucket, most_steps=most_steps):
        if not batch.is_listed and bucket.metadata(batch.key) is None:
            claimed = batch.key
            break
        last = batch.key
    latest = _get_latest(last, bucket) if last else position.latest
    return replace(position, latest=latest, claimed=claimed, is_end=False)


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


def _get_latest(key: str, bucket: Bucket) -> Latest:
    parsed, metadata = keys.parse_data_key(key), bucket.metadata(key) or {}
    return Latest(parsed.row_id, parsed.timestamp, int(metadata.get("rows", 0)))


def _parse_latest(content: Any) -> Latest:
    latest = Latest(content["latest_row_id"], content["timestamp"], content["rows_ingested"])
    if type(latest.latest_row_id) is not int or latest.latest_row_id < 0:
        raise ValueError("latest_row_id")
    return latest
