"""Word of a backlog while it lands: how fast, and how long it will take."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from shared.telemetry import logger

_INTERVAL_SECONDS = 10.0


@dataclass(slots=True)
class Progress:
    """How far a table's backlog is in this run, logged every ten seconds at most.

    So an ordinary run, whose tables are read to their ends before that, logs nothing of it.

    Attributes:
        highest_id: the table's when the run began; None where it is not known.
    """

    highest_id: int | None = None
    _began: float = field(default_factory=lambda: time.monotonic())
    _said: float = field(default_factory=lambda: time.monotonic())

    def batch_landed(self, table: str, rows: int, row_id: int) -> None:
        """Say how things stand, if that was not said just now, after a batch that has more behind.

        Args:
            table: its name.
            rows: how many have landed in this run.
            row_id: the last that has landed.
        """
        now = time.monotonic()
        if now - self._said < _INTERVAL_SECONDS:
            return
        self._said = now
        rate = rows / (now - self._began)
        said: dict[str, Any] = {"table": table, "rows": rows, "latest_row_id": row_id}
        said |= {"rows_per_second": round(rate)} | self._left(row_id, rate)
        logger().info("A backlog is landing", extra=said)

    def _left(self, row_id: int, rate: float) -> dict[str, int]:
        """Return what is left, as if no id were missing."""
        if self.highest_id is None:
            return {}
        rows_left = max(0, self.highest_id - row_id)
        left = {"rows_left": rows_left}
        return left | {"seconds_left": round(rows_left / rate)} if rate else left
