"""What a run reports of its tables: summaries, and how a backlog lands."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from shared import telemetry

_INTERVAL_SECONDS = 10.0
_LONG_SECONDS = 3600


@dataclass(frozen=True, slots=True, kw_only=True)
class TableSummary:
    """What happened to one table in a run: its log line, and its part of the run's result.

    Attributes:
        rows: how many rows landed.
        from_row_id: the watermark when the run began.
        latest_row_id: the watermark when it ended.
        held_back_rows: how many rows wait for a transaction that is still open.
        watermark_age_seconds: how long the watermark has stood still while rows wait, else 0.
        contract_violations: how many were reported, one for each column and kind.
        key: the key of the last batch that landed.
        objects: how many batches landed.
        bytes: the size of these batches.
        duration_ms: how long the table took.
        changes: how many rows went into the change stream.
        changes_repeated: how many of these had been delivered before.
        changes_key: the key of the last object that went into the change stream.
    """

    rows: int = 0
    from_row_id: int
    latest_row_id: int
    held_back_rows: int = 0
    watermark_age_seconds: int = 0
    contract_violations: int = 0
    key: str | None = None
    objects: int = 0
    bytes: int = 0
    duration_ms: int = 0
    changes: int = 0
    changes_repeated: int = 0
    changes_key: str | None = None

    @classmethod
    def of_none(cls, row_id: int) -> TableSummary:
        """Return the summary of a table that had nothing to do."""
        return cls(from_row_id=row_id, latest_row_id=row_id)


class Progress:
    """Logs how fast a table's backlog lands, at most every ten seconds.

    An ordinary run reads its tables to the end sooner, and so logs none of it.
    """

    def __init__(self, table: str, highest_id: int | None) -> None:
        """Start the clock.

        Args:
            table: the table's name.
            highest_id: the table's highest id when the run began; None if it is not known.
        """
        self._table, self._highest_id = table, highest_id
        self._began = self._logged = time.monotonic()

    def log(self, rows: int, row_id: int) -> None:
        """Log the progress, unless it was logged less than ten seconds ago.

        Args:
            rows: how many rows have landed in this run.
            row_id: the last id that has landed.
        """
        now = time.monotonic()
        if now - self._logged < _INTERVAL_SECONDS:
            return
        self._logged = now
        rate = rows / (now - self._began)
        fields: dict[str, Any] = {"table": self._table, "rows": rows, "latest_row_id": row_id}
        fields |= {"rows_per_second": round(rate)} | self._left(row_id, rate)
        telemetry.logger().info("A backlog is landing", extra=fields)

    def _left(self, row_id: int, rate: float) -> dict[str, Any]:
        """Estimate the rows and seconds that are left, as if no id were missing."""
        if self._highest_id is None:
            return {}
        rows_left = max(0, self._highest_id - row_id)
        left: dict[str, Any] = {"rows_left": rows_left}
        if not rate:
            return left
        seconds = round(rows_left / rate)
        left |= {"seconds_left": seconds}
        return left | {"faster": self._faster} if seconds > _LONG_SECONDS else left

    @property
    def _faster(self) -> str:
        """What lands a large backlog sooner than one call after the other."""
        return (
            f"`make load TABLE={self._table} STAGE=...` lands it by many workers side by side, "
            "while runs go on; see Load a large table in docs/operating.md"
        )
