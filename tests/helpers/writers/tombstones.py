"""A reconciliation's tombstones, written by hand: the rules, and nothing around them."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

from shared.bucket import keys
from shared.bucket.position import find_position
from shared.tables import Table

if TYPE_CHECKING:
    from tests.helpers.runs.place import Place


def bury(place: Place, name: str) -> int:
    """Put a tombstone for each row that landed and is gone; return how many were put.

    The front is found before the number, and the number before the source is read. If somebody else
    has put an object under that number meanwhile, nothing is put.
    """
    table, bucket = Table(name), place.bucket
    front = find_position(table, bucket).row_id
    stream = [key for key in bucket.keys(keys.change_folder(table)) if keys.is_change_key(key)]
    number = keys.parse_change_key(stream[-1]).number if stream else 0
    landed = [key for key in bucket.keys(keys.data_folder(table)) if keys.is_data_key(key)]
    last = {}
    for key in [*landed, *stream]:
        for line in getattr(bucket.get(key), "body", b"").splitlines():
            row = json.loads(line)
            last[row[table.id_column]] = row.get("_deleted", False)
    with closing(place.session()) as connection:
        found = connection.run(f"SELECT {table.id_column} FROM {name}")
    there = {row_id for [row_id] in found}
    gone = sorted(i for i, is_gone in last.items() if i <= front and i not in there and not is_gone)
    if not gone:
        return 0
    lines = [json.dumps({table.id_column: row_id, "_deleted": True}) for row_id in gone]
    body = "".join(f"{line}\n" for line in lines).encode()
    mark = dict(bucket.metadata(stream[-1]) or {}) if stream else {}
    key = keys.format_change_key(table, number + 1)
    return len(gone) * bucket.create(key, body, mark | {"rows": str(len(gone))})
