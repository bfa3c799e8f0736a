"""A run: rounds over the tables that have something to do, until none has, or time is up.

In a round each table takes one step, children before parents, so that one table's backlog does not
starve the others. A row's parent was committed no later than the row. So after a round in which
rows landed, every table behind theirs that was not read since is asked again whether it has news.
When none has, the run has caught up: every row that the landed rows refer to has landed, too.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from services.ingestion.standing import read_highest_ids_or_none, take_standings
from services.ingestion.summary import TableSummary
from shared import telemetry
from shared.bucket.bucket import Bucket
from shared.errors import PipelineError, explained, run_error
from shared.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    from services.ingestion.read_ahead import Reader
    from services.ingestion.standing import Standing
    from services.ingestion.table import TableRun


def _unlimited() -> float:
    return float("inf")


@dataclass(frozen=True, slots=True)
class Limits:
    """What a run may use.

    Attributes:
        batch_rows: how many rows an object, and so a batch in memory, holds at most.
        writer_wait_seconds: how long to wait for open writers, for all tables together.
        seconds_left: returns how long the run may still go on; no step is begun once it returns 0.
        without_changes: the tables that have no change stream.
    """

    batch_rows: int = 50_000
    writer_wait_seconds: float = 30.0
    seconds_left: Callable[[], float] = _unlimited
    without_changes: Collection[str] = ()


def ingest(
    tables: Sequence[str],
    client: S3Client,
    connection: Connection,
    bucket_name: str,
    limits: Limits | None = None,
    *,
    hash_key: str | None = None,
) -> dict[str, Any]:
    """Land the new and changed rows of tables.

    Args:
        tables: their names, children before parents.
        client: boto3 client of S3.
        connection: a session of the database, in autocommit.
        bucket_name: the bucket to land in.
        limits: what the run may use.
        hash_key: the key of the hashes that land in place of personal data; a table whose contract
            hashes a column fails without it.

    Returns:
        `rows`, how many landed; `more`, whether a backlog is left; `tables`, the summary of each;
        `deleted`, the names of those to be compared, because rows of them may have been deleted.

    Raises:
        IngestionError: some tables failed, and are named; all others are done.
        TransientIngestionError: the same, and a retry may fix every failure.
    """
    run = _Run(Bucket(client, bucket_name), connection, limits or Limits())
    run.begin([Table(name) for name in tables], hash_key)
    run.rounds()
    summaries = run.summaries()
    for name, summary in summaries.items():
        telemetry.logger().info("Table ingested", extra={"table": name} | asdict(summary))
    if run.failures:
        raise run_error({table.name: error for table, error in run.failures.items()})
    return {
        "more": run.more,
        "deleted": run.deleted(),
        "rows": sum(summary.rows for summary in summaries.values()),
        "tables": {name: asdict(summary) for name, summary in summaries.items()},
    }


class _Run:
    """One run over some tables; single use."""

    def __init__(self, bucket: Bucket, connection: Connection, limits: Limits) -> None:
        self.bucket = bucket
        self.connection = connection
        self.limits = limits
        self.failures: dict[Table, PipelineError] = {}
        self.more = False
        self._standings: list[Standing] = []
        self._runs: dict[Table, TableRun] = {}  # of the tables that have, or had, something to do
        self._reader: Reader | None = None

    def begin(self, tables: Sequence[Table], hash_key: str | None) -> None:
        """Find out where the tables stand, and which have something to do."""
        self._standings = take_standings(
            tables,
            self.limits.without_changes,
            self.bucket,
            self.connection,
            hash_key,
            self._failing,
        )
        for standing in self._standings:
            if standing.to_read or standing.to_scan:
                self._open(standing)

    def rounds(self) -> None:
        """Let the tables take steps until none has any left, or time is up."""
        unseen: Sequence[Standing] = ()
        while any(run.has_steps for run in self._alive()):
            unseen = self._round()
            if self.limits.seconds_left() <= 0:
                break
            self._read_again(unseen)
            unseen = ()
        for run in self._alive():
            with self._failing(run.table):
                run.end()
        self.more = bool(unseen) or any(run.more for run in self._alive())

    def deleted(self) -> list[str]:
        """Return the names of the tables to be compared with their streams after this run."""
        return [each.table.name for each in self._standings if each.has_deletes]

    def summaries(self) -> dict[str, TableSummary]:
        """Return what happened to each table that did not fail, by name."""
        return {
            standing.table.name: self._runs[standing.table].summary()
            if standing.table in self._runs
            else TableSummary.of_none(standing.position.row_id)
            for standing in self._standings
            if standing.table not in self.failures
        }

    def _round(self) -> Sequence[Standing]:
        """Let each table take a step.

        Returns:
            The tables that may have news by now: those behind a table of which rows landed that
            were not read since, and are not known to have more rows to read.
        """
        unseen, has_landed = [], False
        for standing in self._standings:
            run = self._runs.get(standing.table)
            before, is_current = (run.objects if run else 0), False
            if run and run.has_steps and self._may_go_on(run):
                with self._failing(run.table):
                    run.step()
                    is_current = run.was_read
            if has_landed and not is_current and not (run and run.to_read):
                unseen.append(standing)
            has_landed |= run is not None and run.objects > before
        return [each for each in unseen if each.table not in self.failures]

    def _may_go_on(self, run: TableRun) -> bool:
        return run.table not in self.failures and self.limits.seconds_left() > 0

    def _read_again(self, standings: Sequence[Standing]) -> None:
        if not standings:
            return
        tables = [standing.table for standing in standings]
        highest = read_highest_ids_or_none(tables, self.connection)
        for standing in standings:
            highest_id = highest.get(standing.table.name)
            if standing.table in self._runs or standing.position.is_behind(highest_id):
                self._open(standing).see(highest_id)

    def _open(self, standing: Standing) -> TableRun:
        """Return a table's run, which begins here if it has not. Imports what needs pandas."""
        from services.ingestion.read_ahead import Reader
        from services.ingestion.table import TableRun

        limits = self.limits
        self._reader = self._reader or Reader(
            self.connection, limits.batch_rows, limits.writer_wait_seconds, limits.seconds_left
        )
        if standing.table not in self._runs:
            self._runs[standing.table] = TableRun(standing, self.bucket, self._reader)
        return self._runs[standing.table]

    def _alive(self) -> list[TableRun]:
        return [run for table, run in self._runs.items() if table not in self.failures]

    @contextmanager
    def _failing(self, table: Table) -> Iterator[None]:
        """Keep a table's failure for the end of the run: it stops no other table."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - kept as the table's failure, whatever it is
            failure = self.failures[table] = explained(error)
            if self._reader:
                self._reader.forget(table)
            telemetry.failure(f"Table {table.name!r} failed", failure, table=table.name)
