"""Reads what landed, for people and tests to look at."""

from __future__ import annotations

import json
from typing import Any


class Landed:
    """The objects that ingestion wrote to a bucket.

    Knows only the names in the specification, and nothing of the code that writes them.
    """

    def __init__(self, client: Any, bucket_name: str) -> None:
        """Take a boto3 client of S3."""
        self._client = client
        self.bucket_name = bucket_name

    def keys(self, table: str) -> list[str]:
        """Return the keys of a table's data objects, in the order of the ids in them."""
        found = [key for key in self.all_keys(f"{table}/") if key.endswith(".jsonl")]
        return sorted(found, key=lambda key: int(key.removeprefix(f"{table}/").split("-")[0]))

    def latest(self, table: str) -> dict[str, Any] | None:
        """Return the table's latest.json, or None."""
        key = f"{table}/latest.json"
        return json.loads(self.read(key)) if key in self.all_keys(key) else None

    def lines(self, table: str) -> list[dict[str, Any]]:
        """Return all rows of a table that landed, in the order of `keys`."""
        text = b"".join(self.read(key) for key in self.keys(table))
        return [json.loads(line) for line in text.splitlines()]

    def gone(self, table: str, id_column: str) -> set[int]:
        """Return the ids of which the change stream says last that their rows are gone."""
        keys = [key for key in self.all_keys(f"changes/{table}/") if key.endswith(".jsonl")]
        lines = [json.loads(line) for key in sorted(keys) for line in self.read(key).splitlines()]
        is_gone = {line[id_column]: line.get("_deleted", False) for line in lines}
        return {row_id for row_id, gone in is_gone.items() if gone}

    def read(self, key: str) -> bytes:
        """Return an object's content."""
        content: bytes = self._client.get_object(Bucket=self.bucket_name, Key=key)["Body"].read()
        return content

    def all_keys(self, prefix: str = "") -> list[str]:
        """Return every key that starts with `prefix`."""
        pages = self._client.get_paginator("list_objects_v2").paginate(
            Bucket=self.bucket_name, Prefix=prefix
        )
        return [item["Key"] for page in pages for item in page.get("Contents", [])]
