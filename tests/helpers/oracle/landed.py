"""What lies in a bucket, read the way a consumer would."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from shared.bucket import keys

if TYPE_CHECKING:
    from shared.bucket.bucket import Bucket


def data_keys(bucket: Bucket, table: str) -> list[str]:
    """Return the keys of a table's objects in the order of their ids."""
    found = [key for key in bucket.keys(f"{table}/") if keys.is_data_key(key)]
    return sorted(found, key=lambda key: keys.parse_data_key(key).row_id)


def body(bucket: Bucket, key: str) -> str:
    """Return an object's text."""
    found = bucket.get(key)
    assert found is not None, key
    return found.body.decode()


def latest(bucket: Bucket, table: str) -> dict[str, Any]:
    """Return what a table's latest.json says."""
    said: dict[str, Any] = json.loads(body(bucket, f"{table}/latest.json"))
    return said


def rows(bucket: Bucket, table: str) -> list[dict[str, Any]]:
    """Return a table's rows in the order of the stream, numbers with a point as Decimal."""
    lines = [line for key in data_keys(bucket, table) for line in body(bucket, key).splitlines()]
    return [json.loads(line, parse_float=Decimal) for line in lines]


def ids(bucket: Bucket, table: str) -> list[int]:
    """Return the ids of a table's rows in the order of the stream."""
    return [row[f"{table}_id"] for row in rows(bucket, table)]
