"""How far a run is with one table."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from services.ingestion.progress import Progress
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.ingestion.contracts import Inspector
    from services.ingestion.positions import Position
    from services.ingestion.scans import ChangeRun


@dataclass(slots=True)
class TableRun:
    """What happened to one table in a run.

    `to_read` says whether it has rows to read, as far as is known; `observed` is the number of the
    step at which it was last seen to have no more, `landed_at` of the last one that found some.
    """

    table: str
    from_row_id: int
    position: Position
    inspector: Inspector
    changes: ChangeRun | None = None
    progress: Progress = field(default_factory=Progress)
    rows: int = 0
    bytes: int = 0
    held_back_rows: int = 0
    keys: list[str] = field(default_factory=list)
    seconds: float = 0.0
    is_healed: bool = False
    to_read: bool = True
    observed: int = 0
    landed_at: int = 0
    more: bool = False
    all_ours: bool = True

    @property
    def is_looking(self) -> bool:
        """Whether it is at the table's changes, or would be if there were time."""
        return self.changes is not None and not self.changes.over and not self.to_read

    def has_news(self, highest: Mapping[str, int]) -> bool:
        """Tell whether there are rows above the watermark; below it none is still to come."""
        return self.table not in highest or self.position.row_id < highest[self.table]

    def is_set_back(self, highest: Mapping[str, int]) -> bool:
        """Tell whether the table ends below the watermark."""
        return self.table in highest and highest[self.table] < self.position.row_id

    def warn_set_back(self, highest: int) -> None:
        """Log that it does."""
        logger().warning(
            "The table ends below what has landed: rows were deleted, or the database was set "
            "back. New rows with ids up to latest_row_id do not land here",
            extra={
                "table": self.table,
                "highest_row_id": highest,
                "latest_row_id": self.position.row_id,
            },
        )

    @property
    def watermark_age_seconds(self) -> int:
        """How long the watermark has stood still while rows wait: 0 if none do, or it moved."""
        if not self.held_back_rows or self.rows:
            return 0
        return self.position.latest.age_seconds

    def summary(self) -> dict[str, Any]:
        """Return what the log line and the result of the run say."""
        return {
            "rows": self.rows,
            "from_row_id": self.from_row_id,
            "latest_row_id": self.position.row_id,
            "held_back_rows": self.held_back_rows,
            "watermark_age_seconds": self.watermark_age_seconds,
            "contract_violations": len(self.inspector.reported),
            "key": self.keys[-1] if self.keys else None,
            "objects": len(self.keys),
            "bytes": self.bytes,
            "duration_ms": round(self.seconds * 1000),
            "changes": self.changes.rows if self.changes else 0,
            "changes_repeated": self.changes.repeated if self.changes else 0,
            "changes_key": self.changes.objects[-1]
            if self.changes and self.changes.objects
            else None,
        }


def stale(runs: Sequence[TableRun]) -> list[TableRun]:
    """Return the tables that were last seen before rows of a table in front of them were read.

    What these rows refer to may be there by now. Of each round only tables behind the first one
    that had rows are stale, so rounds come to an end.
    """
    found, landed_at = [], 0
    for run in runs:
        if run.observed < landed_at and not run.to_read:
            found.append(run)
        landed_at = max(landed_at, run.landed_at)
    return found
