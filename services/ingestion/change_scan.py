"""One table's change stream in one run: scans the table and saves how far the scan has come.

A scan begins at a mark, goes in stretches through the ids up to the watermark, and lands the rows
whose version is not older than the last mark that is done. When the scan ends, its own mark is
done, provided that the rows above the watermark have landed, or will land, as they were after the
mark (the scan is *settled*, see `table`). A scan that runs out of time is saved and continued by
the next call; otherwise a table that takes longer than one call would never be scanned completely.

Where the table was declared anew, all its rows are read, and those are left out whose line has
landed already (`comparing` has the rules).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from services.ingestion.comparing import Comparing
from shared.bucket import changes
from shared.bucket.changes import Scan
from shared.jsonlines import render
from shared.lines import NO_LINES
from shared.postgres import versions
from shared.postgres.catalogue import read_description
from shared.postgres.categories import together
from shared.postgres.reader import BATCH_BYTES, read_batch
from shared.postgres.refusals import database_errors
from shared.snapshot import break_between
from shared.telemetry import logger

if TYPE_CHECKING:
    from pg8000.native import Connection

    from shared.bucket.bucket import Bucket, Landed
    from shared.bucket.changes import ChangeState
    from shared.contracts.check import Inspector
    from shared.personal import PersonalData
    from shared.postgres.catalogue import Description
    from shared.postgres.reader import Batch
    from shared.snapshot import Mark


class ChangeScan:
    """One table's change stream in one run.

    Attributes:
        landed: the objects that this run has put into the stream.
        repeated: how many of their rows had been delivered before; see `versions.read_repeated`.
        over: whether nothing is left to do in this run.
    """

    def __init__(
        self, state: ChangeState, mark: Mark, bucket: Bucket, personal: PersonalData
    ) -> None:
        """Prepare for a scan.

        Args:
            state: as in the stream's latest.json.
            mark: taken before this run read anything.
            bucket: the bucket that the stream is in.
            personal: which columns of the table must not land as they are.
        """
        self.landed: list[Landed] = []
        self.repeated = 0
        self.over = False
        self._state, self._mark, self._bucket = state, mark, bucket
        self._personal = personal
        self._scan: Scan | None = None
        self._is_settled = False
        self._description: Description | None = None
        self._since: Mark | None = None
        self._comparing: Comparing | None = None
        self._found: list[Batch] = []
        self._found_repeated = 0

    @property
    def rows(self) -> int:
        """How many rows this run has put into the stream."""
        return sum(landed.rows for landed in self.landed)

    @property
    def is_begun(self) -> bool:
        """Whether `begin` was called."""
        return self._scan is not None

    def remember_mark(self) -> None:
        """Save the mark of a table of which nothing has landed, before its first row is read.

        Otherwise, if the first load takes several calls, all rows it landed would count as changed.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        if self._state.pointer.value is None:
            never_scanned = replace(self._mark, writes="", at=0)
            saved = changes.save_change_state(
                replace(self._state, done=never_scanned), self._bucket
            )
            self._state = saved if saved.pointer.value else self._state

    def skip(self) -> None:
        """Leave the scan to the next run."""
        self.over = True

    def begin(self, up_to: int, *, settled: bool) -> None:
        """Begin a scan, or continue the one that the last call did not finish.

        Args:
            up_to: the watermark before this run landed anything.
            settled: whether this mark will be done when a scan that begins now has ended.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        state = changes.heal_change_state(self._state, self._bucket)
        broken, unfinished = break_between(state.done, self._mark), state.scan
        if unfinished and break_between(unfinished.mark, self._mark) is None:
            self._scan, self._is_settled = unfinished, True
        else:
            self._scan, self._is_settled = Scan(self._mark, up_to), settled
        if broken and broken.is_declared_anew:
            self._begin_comparing(state, broken.because)
            return
        if broken and up_to and self._scan.above == 0:
            logger().warning(
                "Every row that has landed goes into the change stream once more",
                extra={"table": state.table.name, "because": broken.because},
            )
        self._since = None if broken else state.done
        self._state = replace(state, done=self._since, scan=None)

    def step(self, connection: Connection, inspector: Inspector, batch_rows: int) -> None:
        """Scan the next stretch of the table; land the changed rows once they fill a batch.

        Raises:
            PipelineError: reading or landing failed; the next run starts the scan again.
        """
        scan = self._begun()
        if self.over:
            return
        if scan.above < scan.up_to:
            last, has_changed = versions.read_stretch(
                self._state.table, connection, scan.above, scan.up_to, self._since, batch_rows
            )
            if has_changed:
                last = self._collect(connection, scan.above, last, inspector, batch_rows)
            self._scan = scan = replace(scan, above=last)
        if scan.above >= scan.up_to:
            self._put()
            if self._is_settled:
                self._state = replace(self._state, done=scan.mark)
            self._save()

    def pause(self) -> bool:
        """Stop because time is up; tell whether something is left for the next call.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        if self.over or self._scan is None:
            return not self.over
        self._put()
        self._save(self._scan if self._is_settled else None)
        return self._is_settled

    def _begin_comparing(self, state: ChangeState, because: str) -> None:
        """Begin to compare lines; leave it to the next run if another one has saved the state."""
        begun = self._begun()
        forgotten = Comparing.remember(state, self._bucket)
        if forgotten is None:
            self.over = True
            return
        self._state = replace(forgotten, scan=None)
        self._comparing = Comparing(self._state, begun.above, begun.up_to, because, self._bucket)

    def _begun(self) -> Scan:
        if self._scan is None:
            raise RuntimeError("`step` comes after `begin`")
        return self._scan

    def _collect(
        self, connection: Connection, above: int, last: int, inspector: Inspector, batch_rows: int
    ) -> int:
        """Read the changed rows of a stretch; return the id up to which they were read."""
        table, since = self._state.table, self._since
        with database_errors(f"Reading the changes of {table.name!r}"):
            self._description = self._description or read_description(
                table, connection, self._personal
            )
            changed = versions.changed_rows(since)
            bounds = {"last": last}
            batch = read_batch(self._description, connection, changed, above, batch_rows, bounds)
        last = batch.last_id if batch.more else last
        repeated = (
            versions.read_repeated(table, connection, above, last, since)
            if since and len(batch.rows)
            else 0
        )
        if self._comparing:
            batch = self._comparing.without_landed(batch)
        inspector.inspect(batch)
        if not self._fits(batch, batch_rows):
            self._put()
        self._found.append(batch)
        self._found_repeated += repeated
        return last

    def _fits(self, batch: Batch, batch_rows: int) -> bool:
        """Tell whether a batch fits into one object with the rows found so far."""
        found = [*self._found, batch]
        rows, size = sum(len(each.rows) for each in found), sum(each.size for each in found)
        return rows <= batch_rows and size <= BATCH_BYTES

    def _put(self) -> None:
        """Put the rows found so far into the stream; drop them if another run was faster."""
        found = [each.rows for each in self._found if len(each.rows)]
        has_left_out = self._comparing is not None and self._comparing.has_left_out
        if self.over or not (found or has_left_out):
            return
        lines = render(together(found)) if found else NO_LINES
        put = changes.put_changes(self._state, lines, self._begun().mark, self._bucket)
        repeated, self._found, self._found_repeated = self._found_repeated, [], 0
        if put is None:
            self.over = True
            return
        self._state, landed = put
        self.landed.append(landed)
        self.repeated += repeated
        if self._comparing:
            self._comparing.has_left_out = False

    def _save(self, unfinished: Scan | None = None) -> None:
        if not self.over:
            state = replace(self._state, scan=unfinished)
            self._state = changes.save_change_state(state, self._bucket)
            self.over = True
