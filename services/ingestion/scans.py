"""One table's change stream in one run: what to look at, stretch by stretch, and what to remember.

A scan begins at a mark, goes through the ids up to the watermark and lands the rows that have a
version which is not older than the last mark that is done. When it has come to its end, its own
mark is done, provided that the rows above the watermark have landed, or will land, as they were
after the mark (`settled`, see `ingest`). A scan that runs out of time is remembered and goes on in
the next call, or a table that takes longer than one would never be looked at as a whole.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from services.ingestion import changes, keys, source, versions
from services.ingestion.batches import BATCH_BYTES
from services.ingestion.changes import ChangeState, Scan
from services.ingestion.marks import break_between, is_unchanged
from shared.telemetry import logger

if TYPE_CHECKING:
    from pg8000.native import Connection

    from services.ingestion.batches import Description
    from services.ingestion.contracts import Inspector
    from services.ingestion.marks import Mark
    from services.ingestion.versions import Stretch
    from shared.objects import Bucket


@dataclass(slots=True)
class ChangeRun:
    """What happens to one table's change stream in a run.

    Attributes:
        state: how far the stream is.
        mark: taken before this run read anything; None as long as there is none.
        rows: how many rows this run has put into the stream.
        repeated: how many of them were there before, but for those a savepoint wrote.
        objects: the keys of its objects.
        over: whether there is nothing left to do in this run.
    """

    state: ChangeState
    mark: Mark | None = None
    rows: int = 0
    repeated: int = 0
    objects: list[str] = field(default_factory=list)
    over: bool = False
    _scan: Scan | None = None
    _is_settled: bool = False
    _description: Description | None = None
    _found: list[Stretch] = field(default_factory=list)

    def survey(self, mark: Mark | None, *, has_news: bool) -> None:
        """Take note of how the table stands; without, or if nothing was written, all is over.

        New rows say that something was, even if it has not been counted yet: what has landed by the
        time it is counted would land here once more.
        """
        self.mark, state = mark, self.state
        unchanged = mark and state.done and not state.scan and is_unchanged(state.done, mark)
        self.over = mark is None or bool(unchanged and not has_news)

    def open(self, bucket: Bucket) -> None:
        """Remember the mark of a table of which nothing has landed, before its first row is read.

        Or, if the first load takes several calls, all that it landed would count as changed.
        """
        if self.mark and self.state.etag is None:
            never_scanned = replace(self.mark, writes="", at=0)
            saved = changes.save_state(replace(self.state, done=never_scanned), bucket)
            self.state = saved if saved.etag else self.state

    def begin(self, up_to: int, bucket: Bucket, *, settled: bool) -> None:
        """Begin the scan, or go on with the one that the last call did not finish.

        Args:
            up_to: the watermark before this run landed anything.
            bucket: where the stream lies.
            settled: whether this mark will be done when a scan that begins now has ended.
        """
        assert self.mark is not None
        self.state = changes.heal_state(self.state, bucket)
        why, unfinished = break_between(self.state.done, self.mark), self.state.scan
        if unfinished and break_between(unfinished.mark, self.mark) is None:
            self._scan, self._is_settled = unfinished, True
        else:
            self._scan, self._is_settled = Scan(self.mark, up_to), settled
        if why and up_to and self._scan.above == 0:
            logger().warning(
                "Every row that has landed goes into the change stream once more",
                extra={"table": self.state.table, "because": why},
            )
        self.state = replace(self.state, done=None if why else self.state.done, scan=None)

    @property
    def is_begun(self) -> bool:
        """Whether `begin` was called."""
        return self._scan is not None

    def step(
        self, connection: Connection, bucket: Bucket, inspector: Inspector, batch_rows: int
    ) -> None:
        """Look at the next stretch of the table, and land what has changed once it is a batch.

        Raises:
            PipelineError: reading or landing failed; the next run begins anew.
        """
        scan = self._scan
        assert scan is not None
        if scan.above < scan.up_to:
            last, has_changed = versions.look_through(
                self.state.table, connection, scan.above, scan.up_to, self.state.done, batch_rows
            )
            if has_changed:
                stretch = self._read(connection, scan.above, last, batch_rows)
                inspector.inspect(stretch.rows)
                if not self._fits(stretch, batch_rows):
                    self._put(bucket)
                self._found.append(stretch)
                last = stretch.last
            self._scan = scan = replace(scan, above=last)
        if scan.above >= scan.up_to:
            self._put(bucket)
            if self._is_settled:
                self.state = replace(self.state, done=scan.mark)
            self._save(bucket)

    def _read(self, connection: Connection, above: int, last: int, batch_rows: int) -> Stretch:
        self._description = self._description or source.describe(self.state.table, connection)
        return versions.get_changed_rows(
            self._description, connection, above, last, self.state.done, batch_rows
        )

    def _fits(self, stretch: Stretch, batch_rows: int) -> bool:
        """Tell whether a stretch goes into one object with what was found so far."""
        together = [*self._found, stretch]
        rows, size = sum(len(each.rows) for each in together), sum(each.size for each in together)
        return rows <= batch_rows and size <= BATCH_BYTES

    def pause(self, bucket: Bucket) -> bool:
        """Stop for want of time; tell whether the next call has something to go on with."""
        if self.over or self._scan is None:
            return not self.over
        self._put(bucket)
        self._save(bucket, self._scan if self._is_settled else None)
        return self._is_settled

    def _put(self, bucket: Bucket) -> None:
        """Put the rows found so far into the stream; if another run was faster, that is all."""
        if self.over or not self._found:
            return
        import pandas as pd

        assert self._scan is not None
        rows = pd.concat([each.rows for each in self._found], ignore_index=True)
        repeated = sum(each.repeated for each in self._found)
        put = changes.put_changes(self.state, rows, self._scan.mark, bucket)
        self._found, self.over = [], put is None
        if put:
            self.state = put
            self.rows += len(rows)
            self.repeated += repeated
            self.objects.append(keys.change_key(self.state.table, self.state.sequence))

    def _save(self, bucket: Bucket, unfinished: Scan | None = None) -> None:
        if not self.over:
            self.state = changes.save_state(replace(self.state, scan=unfinished), bucket)
            self.over = True
