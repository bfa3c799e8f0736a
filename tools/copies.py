"""Copies what has landed of a table from the bucket into a folder, objects under their keys.

Whatever is in the folder counts: the objects that a claim names, and those of the change stream.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from shared.bucket import keys
from shared.bucket.position import get_claim
from shared.errors import StateError
from tools.views import LISTINGS, NOTHING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence
    from pathlib import Path

    from shared.bucket.bucket import Bucket, ListedObject
    from shared.tables import Table

# How many objects are read in parallel: most are small, and a request mostly waits. boto3's client
# keeps ten connections.
_READERS: Final = 10


class Copies:
    """Copies of what has landed of some tables, of each as it was when it was copied."""

    def __init__(self, tables: Sequence[Table], bucket: Bucket, folder: Path) -> None:
        """Let each table be one of which nothing has landed, in an empty folder."""
        self._bucket, self._folder = bucket, folder
        self._copied: set[Table] = set()
        (folder / LISTINGS).mkdir()
        for table in tables:
            for subfolder in (keys.data_folder(table), keys.change_folder(table)):
                (folder / subfolder).mkdir(parents=True)
                (folder / subfolder / NOTHING).touch()
            self._list_file(table).touch()

    def copy(self, table: Table) -> None:
        """Copy what has landed of a table, unless it was copied before.

        Raises:
            LandingError, LandingUnavailableError: see `Bucket`.
            StateError: a claim is not valid, or an object is missing.
        """
        if table in self._copied:
            return
        # A change is never older than its row in the first stream, and an object than its claim.
        # So in this order no change lacks its row, and no object its claim.
        listed = self._bucket.list(keys.change_folder(table))
        changes = [each for each in listed if keys.is_change_key(each.key)]
        listed = self._bucket.list(keys.data_folder(table))
        batches = [each for each in listed if keys.is_data_key(each.key)]
        claimed = claimed_keys(table, [each.key for each in batches], self._bucket)
        rows = self._copy_objects([*claimed, *(each.key for each in changes)])
        lines = (json.dumps(line) + "\n" for line in _lines(batches, changes, claimed, rows))
        self._list_file(table).write_text("".join(lines))
        self._copied.add(table)  # not before it is complete: Ctrl-C may end a copy

    def _copy_objects(self, wanted: Sequence[str]) -> dict[str, int]:
        """Copy objects; return how many rows each has."""
        with ThreadPoolExecutor(_READERS) as pool:
            return dict(zip(wanted, pool.map(self._copy_object, wanted), strict=True))

    def _copy_object(self, key: str) -> int:
        found = self._bucket.get(key)
        if found is None:
            raise StateError(
                f"s3://{self._bucket.name}/{key} was listed, and is missing now. Restore its older "
                "version: landed objects are never deleted."
            )
        (self._folder / key).write_bytes(found.body)
        return found.body.count(b"\n")

    def _list_file(self, table: Table) -> Path:
        return self._folder / LISTINGS / f"{table.name}.jsonl"


def claimed_keys(table: Table, batches: Collection[str], bucket: Bucket) -> set[str]:
    """Return those keys of a table's objects that a claim names.

    A claim ends where the next one begins. If one object ends there, it is the one that the claim
    names; claims are read only where there are several, and at the end of the chain.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
        StateError: a claim is not valid.
    """
    found = filter(keys.is_claim_key, bucket.keys(keys.claim_folder(table)))
    starts = sorted(keys.parse_claim_key(key).row_id for key in found)
    by_end: dict[int, set[str]] = {}
    for key in batches:
        by_end.setdefault(keys.parse_data_key(key).row_id, set()).add(key)
    claimed: set[str] = set()
    for above, end in pairwise(starts):
        ending = by_end.get(end, set())
        named = ending if len(ending) < 2 else {get_claim(table, above, bucket)}
        claimed |= ending & named
    if starts and max(by_end, default=0) > starts[-1]:
        claimed |= {get_claim(table, starts[-1], bucket) or ""} & set(batches)
    return claimed


def _lines(
    batches: Sequence[ListedObject],
    changes: Sequence[ListedObject],
    claimed: Collection[str],
    rows: dict[str, int],
) -> Iterator[dict[str, Any]]:
    """Yield what the view `<table>_objects` shows of each object."""
    for each in batches:
        yield {"stream": "rows", "claimed": each.key in claimed} | _line(each, rows)
    for each in changes:
        number = keys.parse_change_key(each.key).number
        yield {"stream": "changes", "number": number} | _line(each, rows)


def _line(listed: ListedObject, rows: dict[str, int]) -> dict[str, Any]:
    return {
        "key": listed.key,
        "rows": rows.get(listed.key),
        "bytes": listed.bytes,
        "last_modified": listed.modified.isoformat(),
    }
