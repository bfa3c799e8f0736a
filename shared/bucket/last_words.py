"""What objects of both streams together say of each row: the last line of an id counts."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from shared.contracts.frames import NotARowError, join_frames, parse_rows, to_frame
from shared.lines import is_tombstone
from shared.prints import last_places
from shared.tables import TOMBSTONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pandas as pd

    from shared.contracts.contract import Contract
    from shared.contracts.frames import Row
    from shared.tables import Table

    type Array = np.ndarray[Any, Any]

_INT64 = range(-(2**63), 2**63)


@dataclass(frozen=True, slots=True)
class LastWords:
    """The lines of objects, in the order in which they were added.

    Attributes:
        table: the table.
        contract: the schema of each column, as the source has it, with its `x-land`.
    """

    table: Table
    contract: Contract
    _ids: list[Array] = field(default_factory=list)
    _deleted: list[Array] = field(default_factory=list)
    _frames: list[pd.DataFrame] = field(default_factory=list)

    def __len__(self) -> int:
        """Return how many lines were added."""
        return sum(map(len, self._ids))

    def add(self, lines: Sequence[bytes], *, may_delete: bool) -> int:
        """Add the lines of an object; return the highest of their ids, 0 if there are none.

        Args:
            lines: each without its line feed.
            may_delete: whether tombstones may be among them.

        Raises:
            NotARowError: a line is not the JSON object of a row.
        """
        rows = parse_rows(lines, self.contract)
        ids = [self._id(row, number) for number, row in enumerate(rows, 1)]
        may_delete = may_delete and TOMBSTONE not in self.contract
        deleted = [may_delete and is_tombstone(row) for row in rows]
        kept = [row for row, is_deleted in zip(rows, deleted, strict=True) if not is_deleted]
        self._ids.append(np.array(ids, np.int64))
        self._deleted.append(np.array(deleted, bool))
        self._frames.append(to_frame(kept, self.contract))
        return max(ids, default=0)

    def rows(self) -> tuple[pd.DataFrame, list[int]]:
        """Return the last version of each row, and the ids of the deleted ones; both ascending."""
        ids = np.concatenate([np.empty(0, np.int64), *self._ids])
        deleted = np.concatenate([np.empty(0, bool), *self._deleted])
        last = last_places(ids)
        places = np.cumsum(~deleted)[last] - 1
        is_gone = deleted[last]
        frames = self._frames or [to_frame([], self.contract)]
        return (
            join_frames(frames, places[~is_gone], self.contract),
            ids[last[is_gone]].tolist(),
        )

    def _id(self, row: Row, number: int) -> int:
        row_id = row.get(self.table.id_column)
        if type(row_id) is not int or row_id not in _INT64:
            raise NotARowError(number)
        return row_id
