"""How objects in the bucket are named: the only module that knows. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from shared.errors import StateError

_DATA_KEY = re.compile(r"(?P<table>.+)/(?P<row_id>\d+)-(?P<timestamp>[\dT-]{19})\.jsonl")
_CHANGE_KEY = re.compile(r"changes/(?P<table>.+)/(?P<sequence>\d{10})\.jsonl")
_CLAIM_KEY = re.compile(r"claims/(?P<table>.+)/(?P<row_id>\d+)\.json")
_REPLAY_KEY = re.compile(
    r"replays/(?P<table>.+)/(?P<timestamp>[\dT-]{19})-(?P<above>-?\d+)-(?P<up_to>-?\d+)\.jsonl"
)
_TIMESTAMP_FORMAT = "%Y-%m-%dT%H-%M-%S"


class DataKey(NamedTuple):
    """What the key of a data object says."""

    table: str
    row_id: int
    timestamp: str


def timestamp_now() -> str:
    """Return the present time, UTC, in the form keys have: `2024-11-11T15-03-24`."""
    return datetime.now(UTC).strftime(_TIMESTAMP_FORMAT)


def moment(timestamp: str) -> datetime:
    """Return the time that a timestamp in a key stands for."""
    return datetime.strptime(timestamp, _TIMESTAMP_FORMAT).replace(tzinfo=UTC)


def seconds_since(timestamp: str) -> int:
    """Return how long ago a timestamp of ours was, at least 1."""
    return max(1, round((datetime.now(UTC) - moment(timestamp)).total_seconds()))


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


def claim_folder(table: str) -> str:
    """Return where a table's claims lie."""
    return f"claims/{table}/"


def claim_key(table: str, row_id: int) -> str:
    """Return the key of the claim on the batch that starts above `row_id`."""
    return f"{claim_folder(table)}{row_id}.json"


def parse_claim_key(key: str) -> int | None:
    """Return the id above which a claimed batch starts, None for any other key."""
    match = _CLAIM_KEY.fullmatch(key)
    return None if match is None else int(match["row_id"])


def change_folder(table: str) -> str:
    """Return where a table's change stream lies."""
    return f"changes/{table}/"


def change_key(table: str, sequence: int) -> str:
    """Return the key of an object of the change stream: `changes/address/0000000001.jsonl`."""
    return f"{change_folder(table)}{sequence:010}.jsonl"


def parse_change_key(key: str) -> int | None:
    """Return the sequence number of an object of the change stream, None for any other key."""
    match = _CHANGE_KEY.fullmatch(key)
    return None if match is None else int(match["sequence"])


def change_state_key(table: str) -> str:
    """Return the key of what is known of a table's change stream."""
    return f"{change_folder(table)}latest.json"


def replay_folder(table: str) -> str:
    """Return where the rows of a table that were landed again lie."""
    return f"replays/{table}/"


def format_replay_key(table: str, timestamp: str, above: int, up_to: int) -> str:
    """Return the key of the rows above an id up to another, landed again at some time.

    It is `replays/address/2024-11-11T15-03-24-1491-1526.jsonl`.
    """
    return f"{replay_folder(table)}{timestamp}-{above}-{up_to}.jsonl"


def is_replay_key(key: str) -> bool:
    """Tell whether a key is one that `format_replay_key` makes."""
    match = _REPLAY_KEY.fullmatch(key)
    return match is not None and _is_timestamp(match["timestamp"])


def reconcile_key(date: str) -> str:
    """Return the key of what a night's reconcile found: `reconcile/2024-11-11.json`."""
    return f"reconcile/{date}.json"


def _is_timestamp(text: str) -> bool:
    try:
        return datetime.strptime(text, _TIMESTAMP_FORMAT).strftime(_TIMESTAMP_FORMAT) == text
    except ValueError:
        return False
