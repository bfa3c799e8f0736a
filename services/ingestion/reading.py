"""Reading the batches of a run from the database: the next one while one is landed.

The server works while we wait for S3, and the other way round. Only one batch is read ahead at a
time, of whichever table asks first, so memory holds two; and it is only used if the table then
stands where it begins. The session is never used by two: who reads ahead waits for the end of it.
"""

from __future__ import annotations

import sys
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from services.ingestion import source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import pandas as pd
    from pg8000.native import Connection


# How long a thread may keep the interpreter that another one waits for. With Python's 5 ms the
# server stands still, because nobody takes what it sends: a fifth of the time of a load.
_SWITCH_SECONDS = 0.0002


class Batch(NamedTuple):
    """Rows that were read.

    Attributes:
        rows: as of `source.get_table_data`.
        step: the number of the step of the run at which the reading began.
    """

    rows: pd.DataFrame
    step: int


@dataclass(frozen=True, slots=True)
class _Ahead:
    table: str
    row_id: int
    batch: Future[Batch]


class Reader:
    """Reads batches; single use, for one run."""

    def __init__(
        self,
        connection: Connection,
        batch_rows: int,
        writer_wait_seconds: float,
        seconds_left: Callable[[], float],
        next_step: Callable[[], int],
    ) -> None:
        self._connection = connection
        self._batch_rows = batch_rows
        self._wait_left = writer_wait_seconds
        self._seconds_left = seconds_left
        self._next_step = next_step
        self._ahead: _Ahead | None = None

    def read(self, table: str, row_id: int) -> Batch:
        """Return the rows of a table above an id.

        Raises:
            SourceError, SourceUnavailableError: as `source.get_table_data`.
        """
        ahead = self._ahead
        if ahead and ahead.table == table:
            self._ahead = None
            if ahead.row_id == row_id:
                batch = ahead.batch.result()
                if not batch.rows.attrs["held_back_rows"]:
                    return batch
        wait_seconds = max(0.0, min(self._wait_left, self._seconds_left()))
        batch = self._read(table, row_id, self._next_step(), wait_seconds)
        self._wait_left -= batch.rows.attrs["waited_seconds"]
        return batch

    @contextmanager
    def reading_ahead(self, table: str, row_id: int) -> Iterator[None]:
        """Read above an id in the background, to the end; a failure is that of the next `read`.

        It waits for no writer: where rows are held back, `read` does.
        """
        if self._ahead or self._seconds_left() <= 0:
            yield
            return
        with _switching_often(), ThreadPoolExecutor(1) as thread:
            batch = thread.submit(self._read, table, row_id, self._next_step(), 0.0)
            self._ahead = _Ahead(table, row_id, batch)
            yield

    def forget(self, table: str) -> None:
        """Drop what was read ahead of a table: nobody will ask for it."""
        if self._ahead and self._ahead.table == table:
            self._ahead = None

    def _read(self, table: str, row_id: int, step: int, wait_seconds: float) -> Batch:
        rows = source.get_table_data(
            table, row_id, self._connection, self._batch_rows, wait_seconds=wait_seconds
        )
        return Batch(rows, step)


@contextmanager
def _switching_often() -> Iterator[None]:
    before = sys.getswitchinterval()
    sys.setswitchinterval(_SWITCH_SECONDS)
    try:
        yield
    finally:
        sys.setswitchinterval(before)
