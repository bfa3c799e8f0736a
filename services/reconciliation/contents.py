"""Reads the ids in an object of JSON lines, and checks that it is intact.

A line of the change stream may be a tombstone, `{"payment_id": 5, "_deleted": true}`: the row with
this id is gone. Of each other line there is a print: a number of 64 bits that tells it from others.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from services.reconciliation.ids import NO_IDS, NO_PRINTS, Ids
from shared.json_reader import parse_line
from shared.lines import is_tombstone
from shared.prints import Prints, prints_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.bucket.bucket import Bucket

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Contents:
    """What an object holds.

    Attributes:
        ids: the ids of its rows, in the order of the lines.
        prints: the print of each of these lines.
        gone: the ids of its tombstones, in the order of the lines.
        rows: the number of rows in its metadata; None if there is none.
        is_there: whether the object exists.
        faults: what is wrong with it, in words.
    """

    ids: Ids = field(default_factory=lambda: NO_IDS)
    prints: Prints = field(default_factory=lambda: NO_PRINTS)
    gone: Ids = field(default_factory=lambda: NO_IDS)
    rows: str | None = None
    is_there: bool = True
    faults: list[str] = field(default_factory=list)


def get_contents(key: str, id_name: str, bucket: Bucket, *, may_delete: bool) -> Contents:
    """Return the contents of an object.

    Args:
        key: the object's.
        id_name: the id column.
        bucket: the bucket.
        may_delete: whether there may be tombstones among its lines.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
    """
    with bucket.open(key) as found:
        if found is None:
            return Contents(faults=["it is missing"], is_there=False)
        return replace(
            parse_lines(found.lines, id_name, may_delete=may_delete),
            rows=found.metadata.get("rows"),
        )


def parse_lines(lines: Iterable[bytes], id_name: str, *, may_delete: bool = True) -> Contents:
    """Return the contents of lines; a complete row counts, even if its line feed is missing."""
    ids, gone, rows = list[int](), list[int](), list[bytes]()
    faults, bad, line = list[str](), 0, b"\n"
    for line in lines:
        found = _parse(line, id_name)
        if found is None:
            bad += 1
        elif found.is_gone and may_delete:
            gone.append(found.row_id)
        else:
            ids.append(found.row_id)
            rows.append(line.removesuffix(b"\n"))
    if not line.endswith(b"\n"):
        faults.append("it is truncated: its last line has no line feed")
    elif bad:
        faults.append(f"{bad} of its lines are not rows")
    here = np.array(ids, np.int64), prints_of(rows), np.array(gone, np.int64)
    return Contents(*here, faults=faults)


class _Line(NamedTuple):
    row_id: int
    is_gone: bool


def _parse(line: bytes, id_name: str) -> _Line | None:
    try:
        row = parse_line(line)
        row_id = row[id_name]
    except (ValueError, KeyError, TypeError):
        return None
    if type(row_id) is not int or row_id not in _INT64:
        return None
    return _Line(row_id, is_tombstone(row))
