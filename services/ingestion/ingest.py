"""The run: for each table, where it stands, what is new above that, and landing it.

Knows neither boto3 nor pg8000. A run goes through the tables that have news in rounds of one batch
each, children before parents, so that one table's backlog starves no other. What a row refers to
was committed no later than the row: so after rows were read, each table behind theirs is looked at
again. A run has caught up when none has news: all that the landed rows refer to has landed, too.

A table that was read to its end is looked through for changes to what had landed before, stretch by
stretch. Its stream of changes may go on from this run's mark if every row above the old watermark
has landed, or will land, as it was after the mark. That is so if this run has itself written
whatever landed since, and has read the table to its end: whoever read earlier, and is slow, has no
row left to land. docs/exactness.md has the argument.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING, Any

from services.ingestion import landing, source
from services.ingestion.changes import read_state
from services.ingestion.contracts import Inspector
from services.ingestion.positions import (
    Position,
    heal_position,
    read_position,
    save_position,
)
from services.ingestion.reading import Reader
from services.ingestion.scans import ChangeRun
from services.ingestion.survey import Survey, highest_ids, survey
from services.ingestion.table_run import TableRun, stale
from services.ingestion.tables import id_column
from shared import telemetry
from shared.errors import PipelineError, explained, run_error
from shared.objects import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

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
        self.failures: dict[str, PipelineError] = {}
        self.steps = count(1)
        self.reader = Reader(
            connection,
            limits.batch_rows,
            limits.writer_wait_seconds,
            limits.seconds_left,
            self.steps.__next__,
        )

    def go(self, tables: Sequence[str]) -> dict[str, Any]:
        runs = self._survey(tables)
        self._rounds(runs)
        done = {run.table: run.summary() for run in self._alive(runs)}
        for table, summary in done.items():
            telemetry.logger().info("Table ingested", extra={"table": table} | summary)
        if self.failures:
            raise run_error(self.failures, done)
        return {
            "more": any(run.more for run in runs),
            "rows": sum(run.rows for run in runs),
            "tables": done,
        }

    def _survey(self, tables: Sequence[str]) -> list[TableRun]:
        """Find out where the tables stand on both sides, which is asked side by side."""
        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            positions = {each: pool.submit(read_position, each, self.bucket) for each in tables}
            states = {
                each: pool.submit(read_state, each, self.bucket)
                for each in tables
                if each not in self.limits.without_changes
            }
            seen = self._ask_source(tables)
        runs = []
        for table, position in positions.items():
            with self._failing(table):
                at = position.result()
                stream = ChangeRun(states[table].result()) if table in states else None
                run = TableRun(table, at.row_id, at, Inspector(table), stream)
                self._compare(run, seen)
                runs.append(run)
        self._report_set_back([run for run in runs if run.is_set_back(seen.highest_ids)])
        return runs

    def _ask_source(self, tables: Sequence[str]) -> Survey:
        for with_ids in (True, False):
            with suppress(PipelineError):  # reading each table says which can't be asked, and why
                return survey(tables, self.connection, with_ids=with_ids)
        return Survey()

    def _compare(self, run: TableRun, seen: Survey) -> None:
        """Note what there is to do; a table that was declared anew is read, which reports it."""
        has_news = run.has_news(seen.highest_ids)
        run.to_read = has_news or not run.inspector.expects(seen.declared.get(run.table))
        run.progress.highest_id = seen.highest_ids.get(run.table)
        if run.changes:
            run.changes.survey(seen.marks.get(run.table), has_news=has_news)

    def _report_set_back(self, runs: list[TableRun]) -> None:
        """Warn of tables that end below what has landed, if that is not what landed meanwhile."""
        highest = self._highest_ids(runs) if runs else {}
        for run in runs:
            if run.is_set_back(highest):
                run.warn_set_back(highest[run.table])

    def _highest_ids(self, runs: list[TableRun]) -> dict[str, int]:
        with suppress(PipelineError):  # as above
            return highest_ids([run.table for run in runs], self.connection)
        return {}

    def _rounds(self, runs: list[TableRun]) -> None:
        while any(run.to_read or run.is_looking for run in self._alive(runs)):
            for run in self._alive(runs):
                self._visit(run)
            if self.limits.seconds_left() <= 0:
                break
            self._look_again(self._stale(runs))
        unseen = self._stale(runs)
        for run in self._alive(runs):
            run.more = run.to_read or run in unseen
            if run.is_looking:
                run.more |= self._timed(run, self._pause)

    def _visit(self, run: TableRun) -> None:
        in_time = self.limits.seconds_left() > 0
        if in_time and run.to_read:
            run.to_read = self._timed(run, self._batch)
        if in_time and run.is_looking and run.table not in self.failures:
            self._timed(run, self._look_for_changes)

    def _stale(self, runs: list[TableRun]) -> list[TableRun]:
        return [run for run in stale(runs) if run.table not in self.failures]

    def _look_again(self, runs: list[TableRun]) -> None:
        if runs:
            step, highest = next(self.steps), self._highest_ids(runs)
            for run in runs:
                run.observed, run.to_read = step, run.has_news(highest)

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
        if not run.is_healed:
            run.position, run.is_healed = heal_position(run.position, self.bucket), True
            run.from_row_id = run.position.row_id
            if run.changes and not run.position.row_id and not run.position.claimed:
                run.changes.open(self.bucket)
        if run.position.claimed:
            self._adopt(run, run.position.claimed)
        rows, step = self.reader.read(run.table, run.position.row_id)
        run.held_back_rows = rows.attrs["held_back_rows"]
        with self._reading_ahead(run, rows):
            run.inspector.inspect(rows)
            self._moved(run, rows, *landing.land(run.position, rows, self.bucket))
        run.observed = step
        # A batch that somebody claimed meanwhile is not left to them: they may be dead.
        more = rows.attrs["more"] or run.position.claimed is not None
        if more:
            run.progress.batch_landed(run.table, run.rows, run.position.row_id)
        return more

    def _reading_ahead(self, run: TableRun, rows: pd.DataFrame) -> AbstractContextManager[None]:
        if not rows.attrs["more"]:
            return nullcontext()
        return self.reader.reading_ahead(run.table, int(rows[id_column(run.table)].iloc[-1]))

    def _look_for_changes(self, run: TableRun) -> bool:
        """Look through the next stretch of a table that was read to its end."""
        stream = run.changes
        assert stream is not None
        if not stream.is_begun:
            if not run.all_ours:  # the next run looks, which knows what has landed
                stream.over = True
                return False
            stream.begin(run.from_row_id, self.bucket, settled=not run.held_back_rows)
        before = stream.rows
        stream.step(self.connection, self.bucket, run.inspector, self.limits.batch_rows)
        if stream.rows > before:
            run.landed_at = next(self.steps)
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
        if landed:
            run.landed_at = next(self.steps)
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
        except Exception as error:  # noqa: BLE001 - a fault of ours in one table is that table's
            self.failures[table] = explained(error)
            self.reader.forget(table)
        else:
            return
        telemetry.failure(f"Table {table!r} failed", self.failures[table], table=table)
