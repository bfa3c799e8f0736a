"""How objects in the bucket are named: the only module that knows. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from shared.errors import StateError

_DATA_KEY = re.compile(r"(?P<table>.+)/(?P<row_id>\d+)-(?P<timestamp>[\dT-]{19})\.jsonl")
_TIMESTAMP_FORMAT = "%Y-%m-%dT%H-%M-%S"


class DataKey(NamedTuple):
    """What the key of a data object says."""

    table: str
    row_id: int
    timestamp: str


def timestamp_now() -> str:
    """Return the present time, UTC, in the form keys have: `2024-11-11T15-03-24`."""
    return datetime.now(UTC).strftime(_TIMESTAMP_FORMAT)


def format_data_key(table: str, row_id: int, timestamp: str) -> str:
    """Return the key of a batch whose last row is `row_id`: `address/1526-2024-….jsonl`."""
    return f"{table}/{row_id}-{timestamp}.jsonl"


def parse_data_key(key: str) -> DataKey:
    """Return what a data object's key says; the reverse of `format_data_key`.

    Raises:
        StateError: no data object is named like this.
    """
    match = _DATA_KEY.fullmatch(key)
    if match is None or not _is_timestamp(match["timestamp"]):
        raise StateError(f"{key!r} is not the key of a data object of ours.")
    return DataKey(match["table"], int(match["row_id"]), match["timestamp"])


def is_data_key(key: str) -> bool:
    """Tell whether a key is one that `format_data_key` makes."""
    match = _DATA_KEY.fullmatch(key)
    return match is not None and _is_timestamp(match["timestamp"])


def latest_key(table: str) -> str:
    """Return the key of a table's pointer to its last batch."""
    return f"{table}/latest.json"


def claim_key(table: str, row_id: int) -> str:
    """Return the key of the claim on the batch that starts above `row_id`."""
    return f"claims/{table}/{row_id}.json"


def _is_timestamp(text: str) -> bool:
    try:
        return datetime.strptime(text, _TIMESTAMP_FORMAT).strftime(_TIMESTAMP_FORMAT) == text
    except ValueError:
        return False
