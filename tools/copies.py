"""Copies what has landed of a table from the bucket into a folder, objects under their keys.

Whatever is in the folder counts: the objects that a claim names, and those of the change stream.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from itertools import takewhile
from typing import TYPE_CHECKING, Any

from shared.bucket import keys
from shared.bucket.bucket import PARALLEL_READS
from shared.bucket.chain import consecutive_keys, follow_claims
from shared.bucket.objects import damaged, get_lines
from shared.bucket.position import get_position
from tools.views import LISTINGS, NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from shared.bucket.bucket import Bucket, ListedObject
    from shared.tables import Table


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
            StateError: a claim is not valid, or an object is missing, truncated or altered.
        """
        if table in self._copied:
            return
        # A change is never older than its row in the first stream, and an object than its claim.
        # So in this order no change lacks its row, and no object its claim.
        found = self._bucket.list(keys.change_folder(table))
        changes = {each.key: each for each in found if keys.is_change_key(each.key)}
        found = self._bucket.list(keys.data_folder(table))
        batches = {each.key: each for each in found if keys.is_data_key(each.key)}
        chain = (key for key, _ in follow_claims(table, 0, self._bucket, most_steps=0))
        claimed = [*takewhile(lambda key: key in batches or self._is_lost(table, key), chain)]
        front = keys.parse_data_key(claimed[-1]).row_id if claimed else 0
        numbered = consecutive_keys(table, 0, changes, self._bucket)
        rows = self._copy_objects([*claimed, *numbered])
        listed = (_line(each, rows, front) for each in (*batches.values(), *changes.values()))
        lines = (json.dumps(line) + "\n" for line in listed)
        self._list_file(table).write_text("".join(lines))
        self._copied.add(table)  # not before it is complete: Ctrl-C may end a copy

    def _is_lost(self, table: Table, key: str) -> bool:
        """Tell of a claimed object that was not listed whether it is one that has landed."""
        landed = get_position(table, self._bucket).row_id
        return keys.parse_data_key(key).row_id <= landed and self._bucket.metadata(key) is None

    def _copy_objects(self, wanted: Sequence[str]) -> dict[str, int]:
        """Copy objects; return how many rows each has."""
        with ThreadPoolExecutor(PARALLEL_READS) as pool:
            return dict(zip(wanted, pool.map(self._copy_object, wanted), strict=True))

    def _copy_object(self, key: str) -> int:
        lines = get_lines(key, self._bucket)
        if lines is None:
            raise damaged(key, "is missing", self._bucket)
        (self._folder / key).write_bytes(lines)
        return lines.count(b"\n")

    def _list_file(self, table: Table) -> Path:
        return self._folder / LISTINGS / f"{table.name}.jsonl"


def _line(listed: ListedObject, rows: Mapping[str, int], front: int) -> dict[str, Any]:
    """Return what the view `<table>_objects` shows of an object.

    Args:
        listed: the object.
        rows: how many rows each object has that counts.
        front: the id up to which all batches have landed.
    """
    if keys.is_change_key(listed.key):
        place = {"stream": "changes", "number": keys.parse_change_key(listed.key).number}
    else:
        is_ahead = keys.parse_data_key(listed.key).row_id > front
        place = {"stream": "rows", "claimed": None if is_ahead else listed.key in rows}
    return place | {
        "key": listed.key,
        "rows": rows.get(listed.key),
        "bytes": listed.bytes,
        "last_modified": listed.modified.isoformat(),
    }
