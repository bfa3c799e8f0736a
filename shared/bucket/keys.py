"""The names of the objects in the bucket; no other module knows them. No I/O.

Each kind of key has a `format_…` that makes it, an `is_…` that recognises it, and a `parse_…` that
reverses `format_…`.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import NamedTuple

from shared.errors import StateError
from shared.tables import Table

_TIMESTAMP_FORMAT = "%Y-%m-%dT%H-%M-%S"


class _Kind(NamedTuple):
    """One kind of key: an example, and the pattern that all of them match."""

    example: str
    pattern: str

    def find(self, key: str) -> re.Match[str] | None:
        """Return the parts of a key of this kind, None for any other."""
        found = re.fullmatch(self.pattern, key)
        if found and "timestamp" in found.groupdict() and not _is_timestamp(found["timestamp"]):
            return None
        return found

    def parse(self, key: str) -> re.Match[str]:
        """Return the parts of a key of this kind, or raise a StateError."""
        found = self.find(key)
        if found is None:
            raise StateError(f"{key!r} is not a key like {self.example}")
        return found


_DATA = _Kind(
    "address/1526-2024-11-11T15-03-24.jsonl",
    r"(?P<table>.+)/(?P<row_id>\d+)-(?P<timestamp>[\dT-]{19})\.jsonl",
)
_CLAIM = _Kind("claims/address/1491.json", r"claims/(?P<table>.+)/(?P<row_id>\d+)\.json")
_CHANGE = _Kind(
    "changes/address/0000000001.jsonl", r"changes/(?P<table>.+)/(?P<number>\d{10})\.jsonl"
)


class DataKey(NamedTuple):
    """The parts of a batch's key: table, id of the last row, and when the batch was claimed."""

    table: Table
    row_id: int
    timestamp: str


class ClaimKey(NamedTuple):
    """The parts of a claim's key: the table, and the id that its batch begins above."""

    table: Table
    row_id: int


class ChangeKey(NamedTuple):
    """The parts of the key of an object in a change stream: table, and number of the object."""

    table: Table
    number: int


def timestamp_now() -> str:
    """Return the current time in UTC, as keys spell it: `2024-11-11T15-03-24`."""
    return datetime.now(UTC).strftime(_TIMESTAMP_FORMAT)


def parse_timestamp(timestamp: str) -> datetime:
    """Return the time that a key's timestamp stands for.

    Raises:
        ValueError: it is not spelled like `timestamp_now`.
    """
    return datetime.strptime(timestamp, _TIMESTAMP_FORMAT).replace(tzinfo=UTC)


def seconds_since(timestamp: str) -> int:
    """Return how many seconds ago a key's timestamp was, at least 1."""
    return max(1, round((datetime.now(UTC) - parse_timestamp(timestamp)).total_seconds()))


def data_folder(table: Table) -> str:
    """Return the folder of a table's batches: `address/`."""
    return table.prefix


def format_data_key(table: Table, row_id: int, timestamp: str) -> str:
    """Return the key of a batch whose last row is `row_id`.

    >>> format_data_key(Table("address"), 1526, "2024-11-11T15-03-24")
    'address/1526-2024-11-11T15-03-24.jsonl'
    """
    return f"{data_folder(table)}{row_id}-{timestamp}.jsonl"


def is_data_key(key: str) -> bool:
    """Tell whether a key is that of a batch."""
    return _DATA.find(key) is not None


def parse_data_key(key: str) -> DataKey:
    """Return the parts of a batch's key.

    Raises:
        StateError: it is no such key.
    """
    found = _DATA.parse(key)
    return DataKey(Table(found["table"]), int(found["row_id"]), found["timestamp"])


def format_latest_key(table: Table) -> str:
    """Return the key of the pointer to a table's last batch: `address/latest.json`."""
    return f"{data_folder(table)}latest.json"


def claim_folder(table: Table) -> str:
    """Return the folder of a table's claims: `claims/address/`."""
    return f"claims/{table.prefix}"


def format_claim_key(table: Table, row_id: int) -> str:
    """Return the key of the claim on the batch that begins above `row_id`.

    >>> format_claim_key(Table("address"), 1491)
    'claims/address/1491.json'
    """
    return f"{claim_folder(table)}{row_id}.json"


def is_claim_key(key: str) -> bool:
    """Tell whether a key is that of a claim."""
    return _CLAIM.find(key) is not None


def parse_claim_key(key: str) -> ClaimKey:
    """Return the parts of a claim's key.

    Raises:
        StateError: it is no such key.
    """
    found = _CLAIM.parse(key)
    return ClaimKey(Table(found["table"]), int(found["row_id"]))


def change_folder(table: Table) -> str:
    """Return the folder of a table's change stream: `changes/address/`."""
    return f"changes/{table.prefix}"


def format_change_key(table: Table, number: int) -> str:
    """Return the key of an object in the change stream.

    >>> format_change_key(Table("address"), 1)
    'changes/address/0000000001.jsonl'
    """
    return f"{change_folder(table)}{number:010}.jsonl"


def is_change_key(key: str) -> bool:
    """Tell whether a key is that of an object in a change stream."""
    return _CHANGE.find(key) is not None


def parse_change_key(key: str) -> ChangeKey:
    """Return the parts of the key of an object in a change stream.

    Raises:
        StateError: it is no such key.
    """
    found = _CHANGE.parse(key)
    return ChangeKey(Table(found["table"]), int(found["number"]))


def format_change_latest_key(table: Table) -> str:
    """Return the key of the pointer into a change stream: `changes/address/latest.json`."""
    return f"{change_folder(table)}latest.json"


def inventory_folder(table: Table) -> str:
    """Return the folder of what the reconciliation knows of a table: `inventory/address/`."""
    return f"inventory/{table.prefix}"


def format_inventory_key(table: Table) -> str:
    """Return the key of a table's inventory: `inventory/address/latest.json`."""
    return f"{inventory_folder(table)}latest.json"


# What the last comparison of each table saw of the server's counters.
COMPARED_KEY = "inventory/compared.json"


def format_shard_key(table: Table, above: int) -> str:
    """Return the key of the part of an inventory that begins above an id.

    >>> format_shard_key(Table("address"), 1000000)
    'inventory/address/1000000.npz'
    """
    return f"{inventory_folder(table)}{above}.npz"


def format_report_key(date: str) -> str:
    """Return the key of a night's reconciliation report: `reconcile/2024-11-11.json`."""
    return f"reconcile/{date}.json"


def _is_timestamp(text: str) -> bool:
    try:
        # Ten times as fast as strptime: a table has 50,000 keys after a year.
        moment = datetime.fromisoformat(text[:11] + text[11:].replace("-", ":"))
    except ValueError:
        return False
    return moment.isoformat().replace(":", "-") == text
