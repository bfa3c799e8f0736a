"""One table in one run: heal, adopt, read, check, land, and then scan for changes.

Once a table has been read to its end, it is scanned, in stretches, for changes to the rows that had
landed before. Its change stream may continue from this run's mark if every row above the old
watermark has landed, or will land, as it was after the mark. That is so if this run has itself
written every object since, and has read the table to its end: a slow run that read before the mark
has no row left to land. docs/exactness.md has the argument.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from services.ingestion.change_scan import ChangeScan
from services.ingestion.claimed import land_claimed
from services.ingestion.land import land_rows, position_after
from services.ingestion.summary import Progress, TableSummary
from shared.bucket.position import follow_position, heal_position, save_position
from shared.contracts.check import Inspector

if TYPE_CHECKING:
    from collections.abc import Iterator

    from services.ingestion.read_ahead import Reader
    from services.ingestion.standing import Standing
    from shared.bucket.bucket import Bucket, Landed
    from shared.bucket.position import Position


class TableRun:
    """One table in one run; nobody else writes its fields.

    Attributes:
        table: the table.
        to_read: whether it may have more rows to read.
        was_read: whether the last step read rows, instead of using those that were read ahead.
        more: whether something is left for the next call; `end` sets it.
    """

    def __init__(self, standing: Standing, bucket: Bucket, reader: Reader) -> None:
        """Begin from where the table stands.

        Args:
            standing: where it stood when the run began.
            bucket: the bucket that its rows land in.
            reader: shared by all tables of the run.
        """
        self.table = standing.table
        self.to_read = standing.to_read
        self.was_read = False
        self.more = False
        self._bucket, self._reader = bucket, reader
        self._personal = standing.personal
        self._position = standing.position
        self._from_row_id = standing.position.row_id
        self._inspector = Inspector(standing.table)
        self._scan: ChangeScan | None = None
        if standing.to_scan and standing.changes and standing.mark:
            self._scan = ChangeScan(standing.changes, standing.mark, bucket, standing.personal)
        self._highest_id = standing.highest_id
        self._progress = Progress(standing.table.name, standing.highest_id)
        self._landed: list[Landed] = []
        self._held_back = 0
        self._seconds = 0.0
        self._is_healed = self._has_adopted = False
        self._is_all_ours = True

    @property
    def has_steps(self) -> bool:
        """Whether there is something to do, as far as is known."""
        return self.to_read or self._to_scan

    @property
    def _to_scan(self) -> bool:
        return self._scan is not None and not self._scan.over and not self.to_read

    @property
    def objects(self) -> int:
        """How many objects of either stream have landed."""
        return len(self._landed) + (len(self._scan.landed) if self._scan else 0)

    def step(self) -> None:
        """Land the next batch; then, if no rows are left but time is, scan the next stretch.

        Raises:
            PipelineError: the step failed; the next run continues from what has landed.
        """
        with self._clock():
            self.was_read = False
            if self.to_read:
                self._land_batch()
                if not self._reader.has_time:
                    return
            if self._scan and self._to_scan:
                self._scan_stretch(self._scan)

    def see(self, highest_id: int | None) -> None:
        """Take note of the table's highest id, which was read again; None if that failed."""
        self._highest_id = highest_id
        self.to_read |= self._position.is_behind(highest_id)

    def end(self) -> None:
        """End the table's run.

        Raises:
            PipelineError: the state of its change stream could not be saved.
        """
        with self._clock():
            self.more = self.to_read
            if self._scan and self._to_scan:
                self.more |= self._scan.pause()

    def summary(self) -> TableSummary:
        """Return what happened so far."""
        rows = sum(batch.rows for batch in self._landed)
        waits = self._held_back and not rows
        scan = self._scan
        return TableSummary(
            rows=rows,
            from_row_id=self._from_row_id,
            latest_row_id=self._position.row_id,
            held_back_rows=self._held_back,
            watermark_age_seconds=self._position.latest.age_seconds if waits else 0,
            contract_violations=len(self._inspector.reported),
            key=self._landed[-1].key if self._landed else None,
            objects=len(self._landed),
            bytes=sum(batch.bytes for batch in self._landed),
            duration_ms=round(self._seconds * 1000),
            changes=scan.rows if scan else 0,
            changes_repeated=scan.repeated if scan else 0,
            changes_key=scan.landed[-1].key if scan and scan.landed else None,
        )

    def _land_batch(self) -> None:
        self._heal()
        if self._position.claimed:
            self._adopt(self._position.claimed)
            self._log_progress()
            return
        batch = self._reader.read(self.table, self._position.row_id, self._personal)
        self._held_back, self.was_read = batch.held_back, not batch.is_ahead
        with self._reader.reading_ahead(batch):
            self._inspector.inspect(batch)
            position, landed = land_rows(self._position, batch.rows, self._bucket, self._highest_id)
            self._is_all_ours &= sum(each.rows for each in landed) == len(batch.rows)
            self._advance(position, landed)
        # A batch that another run has claimed meanwhile is not left to it: it may have crashed.
        self.to_read = batch.more or self._position.claimed is not None
        if self.to_read:
            self._log_progress()

    def _log_progress(self) -> None:
        self._progress.log(sum(each.rows for each in self._landed), self._position.row_id)

    def _heal(self) -> None:
        """Heal the table's position in the bucket: when the run begins, and after an adoption."""
        if self._is_healed:
            return
        self._is_healed = True
        if self._has_adopted:
            before = self._position.row_id
            self._position = follow_position(self._position, self._bucket)
            # Whoever landed what lies between may have read it before this run's mark.
            self._is_all_ours &= self._position.row_id == before
            return
        self._position = heal_position(self._position, self._bucket)
        self._from_row_id = self._position.row_id
        if self._scan and not self._position.row_id and not self._position.claimed:
            self._scan.remember_mark()

    def _adopt(self, key: str) -> None:
        """Land a batch that another run claimed and did not land: exactly the rows it claimed.

        Others may have landed those behind it, so the table is healed again before it is read.
        """
        landed = land_claimed(
            self.table,
            self._position.row_id,
            key,
            self._reader.connection,
            self._bucket,
            inspector=self._inspector,
            personal=self._personal,
        )
        self._is_all_ours &= landed is not None
        if landed:
            self._advance(position_after(self._position, key, landed.rows), [landed])
        self._is_healed, self._has_adopted, self.to_read = False, True, True

    def _advance(self, position: Position, landed: list[Landed]) -> None:
        self._landed += landed
        self._position = save_position(position, self._bucket)

    def _scan_stretch(self, scan: ChangeScan) -> None:
        """Scan the next stretch of a table that was read to its end."""
        if not scan.is_begun:
            if not self._is_all_ours:  # another run landed some rows: the next run scans
                scan.skip()
                return
            scan.begin(self._from_row_id, settled=not self._held_back)
        scan.step(self._reader.connection, self._inspector, self._reader.batch_rows)

    @contextmanager
    def _clock(self) -> Iterator[None]:
        started = time.monotonic()
        try:
            yield
        finally:
            self._seconds += time.monotonic() - started
