"""The run: for each table, where it stands, what is new above that, and landing it.

Knows neither boto3 nor pg8000. A run goes through the tables in rounds of one batch each, children
before parents, so that one table's backlog starves no other. Only a round in which every table was
read to its end completes the run: then all that the landed rows refer to has landed, too.
"""

from __future__ import annotations

import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from services.ingestion import landing, source
from shared import telemetry
from shared.errors import PipelineError, run_error
from shared.objects import Bucket

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

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
    """

    batch_rows: int = 50_000
    writer_wait_seconds: float = 30.0
    seconds_left: Callable[[], float] = _for_ever


@dataclass(slots=True)
class TableRun:
    """What happened to one table in a run."""

    table: str
    from_row_id: int
    position: landing.Position
    rows: int = 0
    bytes: int = 0
    held_back_rows: int = 0
    keys: list[str] = field(default_factory=list)
    seconds: float = 0.0
    news: bool = True
    more: bool = False

    def summary(self) -> dict[str, Any]:
        """Return what the log line and the result of the run say."""
        return {
            "rows": self.rows,
            "from_row_id": self.from_row_id,
            "latest_row_id": self.position.row_id,
            "held_back_rows": self.held_back_rows,
            "key": self.keys[-1] if self.keys else None,
            "objects": len(self.keys),
            "bytes": self.bytes,
            "duration_ms": round(self.seconds * 1000),
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
        self._rounds(self._with_news(runs))
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
        """Read where the tables stand, side by side: each is one request that mostly waits."""

        def read(table: str) -> TableRun | None:
            with self._failing(table):
                position = landing.read_position(table, self.bucket)
                return TableRun(table, position.row_id, position)
            return None

        with ThreadPoolExecutor(_PARALLEL_READS) as pool:
            return [run for run in pool.map(read, tables) if run]

    def _with_news(self, runs: list[TableRun]) -> list[TableRun]:
        """Leave out the tables before the first with news: what is read is read children first.

        A table has news if its highest id is above the watermark: no row below it is still to come.
        """
        try:
            highest = source.get_highest_ids([run.table for run in runs], self.connection)
        except PipelineError:  # one can't be asked, or not now; reading each says which, and why
            highest = {}
        for run in runs:
            run.news = run.position.row_id < highest.get(run.table, run.position.row_id + 1)
            if highest.get(run.table, run.position.row_id) < run.position.row_id:
                _warn_set_back(run, highest[run.table])
        first = (n for n, run in enumerate(runs) if run.news)
        return runs[next(first, len(runs)) :]

    def _rounds(self, runs: list[TableRun]) -> None:
        backlog = bool(runs)
        while backlog:
            backlog = False
            for run in runs:
                run.more = self.limits.seconds_left() <= 0
                if run.table not in self.failures and not run.more:
                    run.more = self._timed_batch(run)
                    backlog |= run.more
            backlog = backlog and self.limits.seconds_left() > 0

    def _timed_batch(self, run: TableRun) -> bool:
        started = time.monotonic()
        try:
            with self._failing(run.table):
                return self._batch(run)
            return False
        finally:
            run.seconds += time.monotonic() - started

    def _batch(self, run: TableRun) -> bool:
        """Land the next rows of a table; tell whether there may be more."""
        if run.news:  # without, nobody can have claimed a batch
            run.position, run.news = landing.heal_position(run.position, self.bucket), False
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
        self._moved(run, *landing.land(run.position, rows, self.bucket))
        # A batch that somebody claimed meanwhile is not left to them: they may be dead.
        return len(rows) == self.limits.batch_rows or run.position.claimed is not None

    def _adopt(self, run: TableRun, key: str) -> None:
        """Land a batch that another run claimed and did not land: exactly the rows it claimed."""
        last = landing.claimed_row_id(key)
        rows = source.get_settled_rows(run.table, run.position.row_id, last, self.connection)
        self._moved(run, *landing.land_claimed(run.position, key, rows, self.bucket))

    def _moved(
        self, run: TableRun, position: landing.Position, landed: list[landing.Landed]
    ) -> None:
        run.position = landing.save_position(position, self.bucket)
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
