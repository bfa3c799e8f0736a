"""Reads the batches of a run from the database, the next one while the current one lands.

The server works while we wait for S3, and the other way round. Only one batch is read ahead at a
time, for the first table that asks, so memory holds two. It is used only if the table's position is
then where the batch begins. Two threads never use the session at once: the landing thread waits for
the reading thread before it asks for anything.
"""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from services.ingestion import new_rows
from shared.personal import NONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pg8000.native import Connection

    from shared.personal import PersonalData
    from shared.postgres.reader import Batch
    from shared.tables import Table


# How long a thread may keep the interpreter while another one waits for it. With Python's default
# of 5 ms the server stalls, because nobody receives what it sends: for a fifth of a load's time.
_SWITCH_SECONDS = 0.0002


@dataclass(frozen=True, slots=True)
class _Ahead:
    table: Table
    row_id: int
    batch: Future[Batch]


class Reader:
    """Reads the new rows of tables; single use, for one run."""

    def __init__(
        self,
        connection: Connection,
        batch_rows: int,
        writer_wait_seconds: float,
        seconds_left: Callable[[], float],
    ) -> None:
        self.connection = connection
        self.batch_rows = batch_rows
        self._wait_left = writer_wait_seconds
        self._seconds_left = seconds_left
        self._ahead: _Ahead | None = None

    @property
    def has_time(self) -> bool:
        """Whether the run may still begin something."""
        return self._seconds_left() > 0

    def read(self, table: Table, row_id: int, personal: PersonalData = NONE) -> Batch:
        """Return the rows of a table above an id; `personal` is the table's.

        Raises:
            SourceError, SourceUnavailableError: see `get_table_data`.
        """
        ahead = self._ahead
        if ahead and ahead.table == table:
            self._ahead = None
            if ahead.row_id == row_id:
                batch = ahead.batch.result()
                if not batch.held_back:
                    return replace(batch, is_ahead=True)
        wait_seconds = max(0.0, min(self._wait_left, self._seconds_left()))
        batch = self._read(table, row_id, personal, wait_seconds)
        self._wait_left -= batch.waited
        return batch

    @contextmanager
    def reading_ahead(self, batch: Batch) -> Iterator[None]:
        """Read the batch that follows this one in the background, until the block ends.

        If that fails, the next `read` raises the error. It does not wait for writers: if rows are
        held back, the next `read` reads them again.
        """
        if self._ahead or not batch.more or not self.has_time:
            yield
            return
        table, personal = batch.description.table, batch.description.personal
        row_id = batch.last_id
        with _switching_often(), ThreadPoolExecutor(1) as thread:
            read = thread.submit(self._read, table, row_id, personal, 0.0, batch)
            self._ahead = _Ahead(table, row_id, read)
            yield

    def forget(self, table: Table) -> None:
        """Drop the batch that was read ahead for a table: nobody will ask for it."""
        if self._ahead and self._ahead.table == table:
            self._ahead = None

    def _read(
        self,
        table: Table,
        row_id: int,
        personal: PersonalData,
        wait_seconds: float,
        after: Batch | None = None,
    ) -> Batch:
        return new_rows.read_new_rows(
            table,
            row_id,
            self.connection,
            self.batch_rows,
            wait_seconds=wait_seconds,
            personal=personal,
            after=after,
        )


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
