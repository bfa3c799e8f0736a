"""JSON lines as they are put into an object. No pandas: `shared.jsonlines` makes them of rows."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.tables import TOMBSTONE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from shared.tables import Table


class Lines(NamedTuple):
    """Rows as JSON lines: their number, and their bytes."""

    rows: int
    body: bytes


NO_LINES = Lines(0, b"")


def is_tombstone(row: Mapping[str, Any]) -> bool:
    """Tell whether a line of the change stream, parsed, says that the row with its id is gone."""
    return len(row) == 2 and row.get(TOMBSTONE) is True  # the other member is the id


def tombstones(ids: Iterable[int], table: Table) -> Lines:
    r"""Return the lines that say of rows in the change stream that they are gone.

    >>> tombstones([5], Table("payment"))
    Lines(rows=1, body=b'{"payment_id":5,"_deleted":true}\n')
    """
    start, end = f"{{{json.dumps(table.id_column)}:", f',"{TOMBSTONE}":true}}\n'
    lines = [f"{start}{row_id}{end}" for row_id in ids]
    return Lines(len(lines), "".join(lines).encode())
