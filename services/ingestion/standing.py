"""Where each table stands, in the bucket and in the database, when a run begins.

Both are asked in parallel: for two small objects per table, and by one statement for all tables. A
run without news ends after that, so nothing here imports pandas.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared import telemetry
from shared.bucket.bucket import PARALLEL_READS
from shared.bucket.changes import get_change_state
from shared.bucket.compared import get_compared
from shared.bucket.position import get_position
from shared.contracts.contract import is_declared, load, personal_data
from shared.errors import PipelineError
from shared.postgres.survey import Survey, read_highest_ids, read_survey
from shared.snapshot import break_between, is_unchanged, may_have_deletes

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
    from contextlib import AbstractContextManager

    from pg8000.native import Connection

    from shared.bucket.bucket import Bucket
    from shared.bucket.changes import ChangeState
    from shared.bucket.position import Position
    from shared.personal import PersonalData
    from shared.snapshot import Mark
    from shared.tables import Table


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a table stands when a run begins.

    Attributes:
        table: the table.
        position: its position in the bucket, by its latest.json.
        changes: how far its change stream has come; None if it has none.
        mark: taken before anything else was read; None if the database could not be asked, or the
            table's rows have no versions.
        highest_id: its highest id in the database; None if the database could not be asked.
        is_as_declared: whether its columns are those of its contract; True if that is not known.
        personal: which of its columns must not land as they are.
        compared: the server's counters when it was last compared with its streams; None if it
            never was, or that is not known.
    """

    table: Table
    position: Position
    changes: ChangeState | None
    mark: Mark | None
    highest_id: int | None
    is_as_declared: bool
    personal: PersonalData
    compared: str | None = None

    @property
    def to_read(self) -> bool:
        """Whether it has to be read: reading also reports that its declaration changed."""
        return self.position.is_behind(self.highest_id) or not self.is_as_declared

    @property
    def to_scan(self) -> bool:
        """Whether it has to be scanned for changes, because it was written to since the last scan.

        New rows are a write, even if the server has not counted it yet: without a scan now, rows
        that land until it is counted would be delivered again.
        """
        if self.changes is None or self.mark is None:
            return False
        if (
            self.changes.done is None
            or self.changes.scan
            or self.position.is_behind(self.highest_id)
        ):
            return True
        return not is_unchanged(self.changes.done, self.mark)

    @property
    def has_deletes(self) -> bool:
        """Whether rows may have been deleted since it was last compared with its streams.

        If it never was, whether they may have been since the last scan.
        """
        done = self.changes and self.changes.done
        if not done or not self.mark or break_between(done, self.mark):
            return False  # nothing can be said of deletes before the first scan has ended
        before = self.compared or done.writes
        return bool(before) and may_have_deletes(before, self.mark.writes)


def take_standings(
    tables: Sequence[Table],
    without_changes: Collection[str],
    bucket: Bucket,
    connection: Connection,
    hash_key: str | None,
    failing: Callable[[Table], AbstractContextManager[None]],
) -> list[Standing]:
    """Return where the tables stand; warn of those whose highest id is below the watermark.

    Args:
        tables: the tables.
        without_changes: the names of those that have no change stream.
        bucket: the bucket that rows land in.
        connection: a session of the database, in autocommit.
        hash_key: the key of the hashes that land in place of personal data, if there is one.
        failing: a context that keeps the failure of a table, which is then left out.
    """
    with ThreadPoolExecutor(PARALLEL_READS) as pool:
        positions = {each: pool.submit(get_position, each, bucket) for each in tables}
        states = {
            each: pool.submit(get_change_state, each, bucket)
            for each in tables
            if each.name not in without_changes
        }
        compared = pool.submit(_get_compared_or_none, bucket) if states else None
        seen = _read_survey_or_none(tables, connection)
    _warn_of_no_versions(states, seen)
    standings = []
    for table in tables:
        with failing(table):
            contract, declared = load(table), seen.declared.get(table.name)
            personal, mark = personal_data(table, hash_key), seen.marks.get(table.name)
            standings.append(
                Standing(
                    table,
                    positions[table].result(),
                    states[table].result() if table in states else None,
                    mark and mark.landing(personal),
                    seen.highest_ids.get(table.name),
                    contract is None or declared is None or is_declared(contract, declared),
                    personal,
                    compared.result().get(table.name) if compared else None,
                )
            )
    _warn_of_set_back(standings, connection)
    return standings


def read_highest_ids_or_none(tables: Sequence[Table], connection: Connection) -> Mapping[str, int]:
    """Return the highest ids in the database by table; no ids at all if one can't be read.

    Then every table counts as one with news, and reading it raises the error of the one that fails.
    """
    with suppress(PipelineError):  # see the docstring
        return read_highest_ids(tables, connection)
    return {}


def _read_survey_or_none(tables: Sequence[Table], connection: Connection) -> Survey:
    """Return the survey; without ids if one can't be read; an empty one if nothing can."""
    with suppress(PipelineError):  # without ids every table is read, which raises what is wrong
        return read_survey(tables, connection, with_ids=True)
    try:
        return read_survey(tables, connection, with_ids=False)
    except PipelineError as error:
        telemetry.failure("No changes can be looked for in this run", error)
        return Survey()


def _get_compared_or_none(bucket: Bucket) -> Mapping[str, str]:
    """Return the counters of the last comparisons; none, if that can't be read."""
    try:
        compared = get_compared(bucket).value
    except PipelineError as error:
        telemetry.failure("Deletes before the last scan can't be looked for in this run", error)
        return {}
    return compared.writes if compared else {}


def _warn_of_no_versions(tables: Iterable[Table], seen: Survey) -> None:
    for table in tables:
        if seen.declared and table.name not in seen.marks:
            telemetry.logger().warning(
                "This table has no change stream, because its rows have no xmin: it, or a "
                "partition, is a view, a foreign table, or not in the heap. Name it in "
                "`withoutChanges`",
                extra={"table": table.name},
            )


def _warn_of_set_back(standings: Sequence[Standing], connection: Connection) -> None:
    """Warn of tables whose highest id, read again after the watermark, is below it."""
    suspects = [each for each in standings if _ends_below(each, each.highest_id)]
    if not suspects:
        return
    highest = read_highest_ids_or_none([each.table for each in suspects], connection)
    for standing in suspects:
        now = highest.get(standing.table.name, standing.highest_id)
        if _ends_below(standing, now):
            telemetry.logger().warning(
                "The table's highest id is below its watermark: rows were deleted, or the database "
                "was restored from a backup. New rows with ids up to latest_row_id land only in "
                "the change stream",
                extra={
                    "table": standing.table.name,
                    "highest_row_id": now,
                    "latest_row_id": standing.position.row_id,
                },
            )


def _ends_below(standing: Standing, highest_id: int | None) -> bool:
    return highest_id is not None and highest_id < standing.position.row_id
