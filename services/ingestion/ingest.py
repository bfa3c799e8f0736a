"""The run: for each table, where it stands, what is new above that, and landing it.

Knows neither boto3 nor pg8000. A run goes through the tables in rounds of one batch each, children
before parents, so that one table's backlog starves no other. Only a round in which every table was
read to its end completes the run: then all that the landed rows refer to has landed, too.

A table that was read to its end is looked through for changes to what had landed before, stretch by
stretch. Its stream of changes may go on from this run's mark if every row above the old watermark
has landed, or will land, as it was after the mark. That is so if this run has itself written
whatever landed since, and has read the table to its end: whoever read earlier, and is slow, has no
row left to land. docs/exactness.md has the argument.
"""

from __future__ import annotations

import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.ingestion import landing, source, versions
from services.ingestion.changes import read_state
from services.ingestion.contracts import Inspector
from services.ingestion.positions import (
    Position,
    heal_position,
    read_position,
    save_position,
)
from services.ingestion.scans import ChangeRun
from shared import telemetry
from shared.errors import PipelineError, run_error
from shared.objects import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    import pandas as pd
    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

_PARALLEL_READS = 10  # the connections a client of boto3 keeps by default


def _for_ever() -> float:
    return float("inf")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use.

    Attributes:
        batch_rows: rows of one object, and so of memory, at most.
        writer_wait_seconds: how long to wait, in all, for open writers.
        seconds_left: tells how long the run may still go on; it begins no batch at 0.
        without_changes: the tables that have no change stream.
    """

    batch_rows: int = 50_000
    writer_wait_seconds: float = 30.0
    seconds_left: Callable[[], float] = _for_ever
    without_changes: Collection[str] = ()


@dataclass(slots=True)
class TableRun:
    """What happened to one table in a run."""

    table: str
    from_row_id: int
    position: Position
    inspector: Inspector
    changes: ChangeRun | None = None
    rows: int = 0
    bytes: int = 0
    held_back_rows: int = 0
    keys: list[str] = field(default_factory=list)
    seconds: float = 0.0
    news: bool = True
    is_read: bool = True
    more: bool = False
    all_ours: bool = True

    @property
    def is_looking(self) -> bool:
        """Whether it is at the table's changes, or would be if there were time."""
        return self.changes is not None and not self.changes.over and not self.more

    def summary(self) -> dict[str, Any]:
        """Return what the log line and the result of the run say."""
        return {
            "rows": self.rows,
            "from_row_id": self.from_row_id,
            "latest_row_id": self.position.row_id,
            "held_back_rows": self.held_back_rows,
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


def ingest(
    tables: Sequence[str],
    client: S3Client,
    connection: Connection,
    bucket_name: str,
    limits: Limits | None = None,
) -> dict[str, Any]:
    """Land what is new in the tables.

    Args:
        tables: which, children before parents.
        client: boto3 client of S3.
        connection: a session of the database, in autocommit.
        bucket_name: where to.
        limits: what the run may use.

    Returns:
        `rows` landed, `more` (whether a backlog is left), and per table in `tables` its summary.

    Raises:
        IngestionError: tables failed, all others are done; names each of them.
        TransientIngestionError: the same, and another try may mend every failure.
    """
    run = _Run(Bucket(client, bucket_name), connection, limits or Limits())
    return run.go(tables)


class _Run:
    """One run over some tables; single use."""

    def __init__(self, bucket: Bucket, connection: Connection, limits: Limits) -> None:
        self.bucket = bucket
        self.connection = connection
        self.limits = limits
        self.wait_left = limits.writer_wait_seconds
        self.failures: dict[str, PipelineError] = {}

    def go(self, tables: Sequence[str]) -> dict[str, Any]:
        runs = self._positions(tables)
        self._survey(runs)
        self._rounds(runs)
        for run in runs:
            if run.table not in self.failures:
                telemetry.logger().info(
                    "Table ingested", extra={"table": run.table} | run.summary()
                )
        if self.failures:
            raise run_error(self.failures)
        return {
            "more": any(run.more for run in runs),
            "rows": sum(run.rows for run in runs),
            "tables": {run.table: run.summary() for run in runs},
        }

    def _positions(self, tables: Sequence[str]) -> list[TableRun]:
        """Read where the tables stand, side by side: each is a request that mostly waits."""
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            positions = {each: pool.submit(read_position, each, self.bucket) for each in tables}
            states = {
                each: pool.submit(read_state, each, self.bucket)
                for each in tables
                if each not in self.limits.without_changes
            }
        runs = []
        for table, position in positions.items():
            with self._failing(table):
                at = position.result()
                stream = ChangeRun(states[table].result()) if table in states else None
                runs.append(TableRun(table, at.row_id, at, Inspector(table), stream))
        return runs

    def _survey(self, runs: list[TableRun]) -> None:
        """Find out which tables have news; those before the first are not read.

        What is read is read children first. A table has news if its highest id is above the
        watermark: no row below it is still to come.
        """
        tables = [run.table for run in runs]
        try:
            seen = versions.survey(tables, self.connection)
        except PipelineError:  # one can't be asked, or not now; reading each says which, and why
            seen = self._survey_without_ids(tables)
        for run in runs:
            highest = seen.highest_ids.get(run.table)
            run.news = highest is None or run.position.row_id < highest
            if highest is not None and highest < run.position.row_id:
                _warn_set_back(run, highest)
            if run.changes:
                run.changes.survey(seen.marks.get(run.table))
        first = next((number for number, run in enumerate(runs) if run.news), len(runs))
        for run in runs[:first]:
            run.is_read = False

    def _survey_without_ids(self, tables: Sequence[str]) -> versions.Survey:
        try:
            return versions.survey(tables, self.connection, with_ids=False)
        except PipelineError:
            return versions.Survey({}, {})

    def _rounds(self, runs: list[TableRun]) -> None:
        reading = any(run.is_read for run in runs)
        while reading or any(run.is_looking for run in self._alive(runs)):
            for run in self._alive(runs):
                in_time = self.limits.seconds_left() > 0
                if reading and run.is_read:
                    run.more = not in_time or self._timed(run, self._batch)
                if in_time and run.is_looking and run.table not in self.failures:
                    self._timed(run, self._look_for_changes)
            if self.limits.seconds_left() <= 0:
                break
            reading = reading and any(run.more for run in runs)
        for run in self._alive(runs):
            if run.is_looking:
                run.more = self._timed(run, self._pause)

    def _alive(self, runs: list[TableRun]) -> list[TableRun]:
        return [run for run in runs if run.table not in self.failures]

    def _timed(self, run: TableRun, work: Callable[[TableRun], bool]) -> bool:
        """Do some work for a table; tell whether there is more, which a failed one has not."""
        started = time.monotonic()
        try:
            with self._failing(run.table):
                return work(run)
            return False
        finally:
            run.seconds += time.monotonic() - started

    def _batch(self, run: TableRun) -> bool:
        """Land the next rows of a table; tell whether there may be more."""
        if run.news:  # without, nobody can have claimed a batch
            run.position, run.news = heal_position(run.position, self.bucket), False
            run.from_row_id = run.position.row_id
            if run.changes and not run.position.row_id and not run.position.claimed:
                run.changes.open(self.bucket)
        if run.position.claimed:
            self._adopt(run, run.position.claimed)
        rows = source.get_table_data(
            run.table,
            run.position.row_id,
            self.connection,
            self.limits.batch_rows,
            wait_seconds=max(0.0, min(self.wait_left, self.limits.seconds_left())),
        )
        self.wait_left -= rows.attrs["waited_seconds"]
        run.held_back_rows = rows.attrs["held_back_rows"]
        run.inspector.inspect(rows)
        self._moved(run, rows, *landing.land(run.position, rows, self.bucket))
        # A batch that somebody claimed meanwhile is not left to them: they may be dead.
        return rows.attrs["more"] or run.position.claimed is not None

    def _look_for_changes(self, run: TableRun) -> bool:
        """Look through the next stretch of a table that was read to its end."""
        stream = run.changes
        assert stream is not None
        if not stream.is_begun:
            if not run.all_ours:  # the next run looks, which knows what has landed
                stream.over = True
                return False
            stream.begin(run.from_row_id, self.bucket, settled=not run.held_back_rows)
        stream.step(self.connection, self.bucket, run.inspector, self.limits.batch_rows)
        return not stream.over

    def _pause(self, run: TableRun) -> bool:
        assert run.changes is not None
        return run.changes.pause(self.bucket)

    def _adopt(self, run: TableRun, key: str) -> None:
        """Land a batch that another run claimed and did not land: exactly the rows it claimed."""
        last = landing.claimed_row_id(key)
        rows = source.get_settled_rows(run.table, run.position.row_id, last, self.connection)
        run.inspector.inspect(rows)
        self._moved(run, rows, *landing.land_claimed(run.position, key, rows, self.bucket))

    def _moved(
        self,
        run: TableRun,
        rows: pd.DataFrame,
        position: Position,
        landed: list[landing.Landed],
    ) -> None:
        run.all_ours &= sum(batch.rows for batch in landed) == len(rows)
        run.position = save_position(position, self.bucket)
        run.keys += [batch.key for batch in landed]
        run.rows += sum(batch.rows for batch in landed)
        run.bytes += sum(batch.bytes for batch in landed)

    @contextmanager
    def _failing(self, table: str) -> Iterator[None]:
        """Keep a table's failure for the end of the run: it stops no other table."""
        try:
            yield
        except PipelineError as error:
            self.failures[table] = error
        except Exception as error:  # noqa: BLE001 - a fault of ours in one table is that table's
            self.failures[table] = _unexpected(error)
        else:
            return
        telemetry.failure(f"Table {table!r} failed", self.failures[table], table=table)


def _warn_set_back(run: TableRun, highest: int) -> None:
    telemetry.logger().warning(
        "The table ends below what has landed: rows were deleted, or the database was set back. "
        "New rows with ids up to latest_row_id do not land here",
        extra={
            "table": run.table,
            "highest_row_id": highest,
            "latest_row_id": run.position.row_id,
        },
    )


def _unexpected(error: Exception) -> PipelineError:
    """Return what can be said of a fault of ours without its message, which may quote a value."""
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    wrapped = PipelineError(f"Unexpected {type(error).__name__} in {place}. Please report it.")
    wrapped.__cause__ = error
    return wrapped
