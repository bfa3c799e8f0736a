"""Copies what has landed of a table from the bucket into a folder, objects under their keys.

Whatever is in the folder counts: the objects that a claim names, and those of the change stream.
"""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from shared.bucket import keys
from shared.bucket.chain import claimed_keys, consecutive_keys
from shared.bucket.objects import damaged, get_lines
from tools.views import LISTINGS, NOTHING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
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
            StateError: a claim is not valid, or an object is missing, truncated or altered.
        """
        if table in self._copied:
            return
        # A change is never older than its row in the first stream, and an object than its claim.
        # So in this order no change lacks its row, and no object its claim. A batch that lands
        # meanwhile may be in the table already, and not yet among its objects.
        found = self._bucket.list(keys.change_folder(table))
        changes = {each.key: each for each in found if keys.is_change_key(each.key)}
        found = self._bucket.list(keys.data_folder(table))
        batches = {each.key: each for each in found if keys.is_data_key(each.key)}
        claimed = [*claimed_keys(table, 0, self._bucket, most_steps=0)]
        if claimed and claimed[-1] not in batches:
            claimed.pop()  # all others have landed, because the next claim is made after an object
        numbered = consecutive_keys(table, 0, changes, self._bucket)
        rows = self._copy_objects([*claimed, *numbered])
        listed = (_line(each, rows) for each in (*batches.values(), *changes.values()))
        lines = (json.dumps(line) + "\n" for line in listed)
        self._list_file(table).write_text("".join(lines))
        self._copied.add(table)  # not before it is complete: Ctrl-C may end a copy

    def _copy_objects(self, wanted: Sequence[str]) -> dict[str, int]:
        """Copy objects; return how many rows each has."""
        with ThreadPoolExecutor(_READERS) as pool:
            return dict(zip(wanted, pool.map(self._copy_object, wanted), strict=True))

    def _copy_object(self, key: str) -> int:
        lines = get_lines(key, self._bucket)
        if lines is None:
            raise damaged(key, "is missing", self._bucket)
        (self._folder / key).write_bytes(lines)
        return lines.count(b"\n")

    def _list_file(self, table: Table) -> Path:
        return self._folder / LISTINGS / f"{table.name}.jsonl"


def _line(listed: ListedObject, rows: Mapping[str, int]) -> dict[str, Any]:
    """Return what the view `<table>_objects` shows of an object.

    Args:
        listed: the object.
        rows: how many rows each object has that counts.
    """
    if keys.is_change_key(listed.key):
        place = {"stream": "changes", "number": keys.parse_change_key(listed.key).number}
    else:
        place = {"stream": "rows", "claimed": listed.key in rows}
    return place | {
        "key": listed.key,
        "rows": rows.get(listed.key),
        "bytes": listed.bytes,
        "last_modified": listed.modified.isoformat(),
    }
