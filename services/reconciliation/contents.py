"""Reads the ids in an object of JSON lines, and checks that it is intact."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from shared.json_reader import parse_line

if TYPE_CHECKING:
    from collections.abc import Iterable

    from shared.bucket.bucket import Bucket

type Ids = np.ndarray[tuple[int], np.dtype[np.int64]]

NO_IDS: Ids = np.empty(0, np.int64)

# One above the lowest bigint, for which SQL has no literal.
LOWEST_ID = 1 - 2**63
_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class Contents:
    """What an object holds.

    Attributes:
        ids: the ids of its rows, in the order of the lines.
        rows: the number of rows in its metadata; None if there is none.
        is_there: whether the object exists.
        faults: what is wrong with it, in words.
    """

    ids: Ids = field(default_factory=lambda: NO_IDS)
    rows: str | None = None
    is_there: bool = True
    faults: list[str] = field(default_factory=list)


def get_contents(key: str, id_name: str, bucket: Bucket) -> Contents:
    """Return the contents of an object.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
    """
    with bucket.open(key) as found:
        if found is None:
            return Contents(faults=["it is missing"], is_there=False)
        return replace(parse_lines(found.lines, id_name), rows=found.metadata.get("rows"))


def parse_lines(lines: Iterable[bytes], id_name: str) -> Contents:
    """Return the contents of lines; a complete row counts, even if its line feed is missing."""
    ids, faults, bad, line = list[int](), list[str](), 0, b"\n"
    for line in lines:
        row_id = _parse_id(line, id_name)
        if row_id is None:
            bad += 1
        else:
            ids.append(row_id)
    if not line.endswith(b"\n"):
        faults.append("it is truncated: its last line has no line feed")
    elif bad:
        faults.append(f"{bad} of its lines are not rows")
    return Contents(np.array(ids, np.int64), faults=faults)


def _parse_id(line: bytes, id_name: str) -> int | None:
    try:
        row_id = parse_line(line)[id_name]
    except (ValueError, KeyError, TypeError):
        return None
    return row_id if type(row_id) is int and row_id in _INT64 else None
