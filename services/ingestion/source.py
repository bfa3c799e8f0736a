"""The PostgreSQL side: which rows are new, and the proof that none is missing among them.

Ids are drawn from a sequence before their rows commit, so a row with a smaller id can appear after
a larger one was read, and `id > watermark` would never see it. Rows read therefore count only when
every id missing among them, from the watermark on, is known to be missing for good:

1.  A missing id below one that was read was drawn before the read began (ids ascend, CACHE 1), by
    an INSERT that held its RowExclusiveLock on the table before it drew the id.
2.  A transaction keeps that lock until it ends, and its rows are visible before it lets go.
3.  So: list the transactions that hold the lock now, wait for exactly those to end, and read the
    missing ids again. What is still missing was rolled back; nobody can insert it any more.

That is how CREATE INDEX CONCURRENTLY waits for writers. Without a gap there is nothing to wait
for, and no further statement. A writer that stays open for longer than a read may wait holds back
the rows above the first id still missing, until the next run.

The assumption: ids come from the table's own sequence, drawn by the INSERT itself. Where a
sequence can't keep it (CACHE, descending, cycling) a WARNING says so. docs/exactness.md argues all
of this at length. The only module with SQL of its own; `columns` adds the expressions per type.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pg8000.native import identifier, literal

from services.ingestion.tables import id_column
from shared.database import database_errors
from shared.errors import SourceError
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import numpy as np
    import pandas as pd
    from pg8000.native import Connection

    from services.ingestion.columns import Column

WRITER_WAIT_SECONDS = 30.0
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.01, 0.5

# The base of a domain is looked up, because a domain travels like what it is made of. The sequence
# is the one the column owns (serial, identity) or the one its default draws from.
_DESCRIBE = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), base.typname, base.typcategory,
       NOT a.attnotnull, drawn.seqincrement, drawn.seqcache, drawn.seqcycle
FROM pg_attribute AS a
CROSS JOIN LATERAL (
    WITH RECURSIVE types AS (
        SELECT * FROM pg_type WHERE oid = a.atttypid
        UNION ALL
        SELECT inner_type.* FROM types JOIN pg_type AS inner_type
            ON types.typtype = 'd' AND inner_type.oid = types.typbasetype
    )
    SELECT typname, typcategory FROM types WHERE typtype <> 'd'
) AS base
LEFT JOIN LATERAL (
    SELECT s.* FROM pg_sequence AS s JOIN pg_depend AS d ON d.deptype IN ('a', 'i')
        AND d.classid = 'pg_class'::regclass AND d.objid = s.seqrelid
        AND d.refclassid = 'pg_class'::regclass
        AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
    UNION
    SELECT s.* FROM pg_sequence AS s JOIN pg_depend AS d
        ON d.refclassid = 'pg_class'::regclass AND d.refobjid = s.seqrelid
        AND d.classid = 'pg_attrdef'::regclass
    JOIN pg_attrdef AS drawing ON drawing.oid = d.objid
        AND drawing.adrelid = a.attrelid AND drawing.adnum = a.attnum
    LIMIT 1
) AS drawn ON true
WHERE a.attrelid = to_regclass({name}) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

# now() is when the transaction began: another moment than the statement's inside a block only.
_READ = """
SELECT count(*), now() <> statement_timestamp(), pg_is_in_recovery(), {aggregates}
FROM (SELECT t.* FROM {table} AS t{among} WHERE {condition} ORDER BY t.{id}{limit}) AS batch
"""

# Every transaction that may yet commit rows into the table, its partitions or children, or through
# its partitioned parents. A prepared transaction has no pid, but keeps its virtualtransaction.
_OPEN_WRITERS = """
WITH RECURSIVE up AS (
    SELECT to_regclass({name})::oid AS oid
    UNION SELECT inhparent FROM up JOIN pg_inherits ON inhrelid = up.oid
), family AS (
    SELECT oid FROM up
    UNION SELECT inhrelid FROM family JOIN pg_inherits ON inhparent = family.oid
)
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation IN (SELECT oid FROM family) AND pid IS DISTINCT FROM pg_backend_pid()
"""

_SESSION = {"TimeZone": "UTC", "DateStyle": "ISO", "IntervalStyle": "postgres"}


@dataclass(frozen=True, slots=True)
class Description:
    """What the catalogue says of a table.

    Attributes:
        table: its name.
        columns: its columns, in order.
        broken_assumption: why its ids may be drawn out of order, or None.
    """

    table: str
    columns: tuple[Column, ...]
    broken_assumption: str | None

    @property
    def id_column(self) -> str:
        """The name of the column that orders the rows."""
        return id_column(self.table)


def get_table_data(
    table: str,
    row_id: int,
    connection: Connection,
    limit: int | None = None,
    *,
    wait_seconds: float = WRITER_WAIT_SECONDS,
) -> pd.DataFrame:
    """Return the rows with an id above `row_id`, ascending by id, with none missing among them.

    Args:
        table: a table with an integer column `<table>_id`.
        row_id: the watermark: rows up to and including it are left out.
        connection: a session in autocommit, on a primary.
        limit: how many rows to return at most.
        wait_seconds: how long to wait for open writers, if an id is missing.

    Returns:
        The rows, in the types `services.ingestion.columns` lists; with the right columns when
        there is none. `attrs["held_back_rows"]` counts the rows that were read and not returned,
        because a writer that may yet fill a gap below them is still open, and
        `attrs["waited_seconds"]` says how long writers were waited for.

    Raises:
        SourceError: no such table or id column, no permission, inside a transaction, on a standby.
        SourceUnavailableError: the database could not be reached, or broke off.
    """
    with database_errors(f"Reading {table!r}"):
        description = describe(table, connection)
        if description.broken_assumption:
            logger().warning(
                "Late rows of this table may be missed",
                extra={"table": table, "because": description.broken_assumption},
            )
        rows = _read(description, connection, f"t.{{id}} > {int(row_id)}", limit=limit)
        gaps = _gaps(row_id, rows[description.id_column].to_numpy())
        if len(gaps):
            return _settle(description, connection, rows, row_id, gaps, limit, wait_seconds)
        return rows


def get_settled_rows(
    table: str, row_id: int, to_row_id: int, connection: Connection
) -> pd.DataFrame:
    """Return the rows above `row_id` up to `to_row_id`, of a range that is known to be settled.

    Raises:
        SourceError, SourceUnavailableError: as `get_table_data`.
    """
    with database_errors(f"Reading {table!r}"):
        condition = f"t.{{id}} > {int(row_id)} AND t.{{id}} <= {int(to_row_id)}"
        return _read(describe(table, connection), connection, condition)


def get_highest_ids(tables: Sequence[str], connection: Connection) -> Mapping[str, int]:
    """Return each table's highest committed id, 0 for an empty table, by one statement.

    Raises:
        SourceError: one of the tables can't be asked.
        SourceUnavailableError: the database could not be reached, or broke off.
    """
    highest = ", ".join(
        f"(SELECT coalesce(max({identifier(id_column(table))}), 0) FROM {identifier(table)})"
        for table in tables
    )
    with database_errors("Looking for new rows"):
        [ids] = connection.run(f"SELECT {highest}")
    return dict(zip(tables, ids, strict=True))


def describe(table: str, connection: Connection) -> Description:
    """Return what the catalogue says of a table.

    Raises:
        SourceError: the table is not there or not visible, or has no integer id column.
    """
    from services.ingestion.columns import Column

    _use_our_spelling(connection)
    found = connection.run(_DESCRIBE.format(name=literal(identifier(table))))
    columns = {name: Column(name, *rest) for name, *rest in (row[:5] for row in found)}
    if not columns:
        raise SourceError(
            f"There is no table {table!r}, or it is not on the role's search_path. "
            "Restore it, or take it out of the tables to ingest."
        )
    id_name = id_column(table)
    if id_name not in columns or columns[id_name].base not in {"int2", "int4", "int8"}:
        raise SourceError(
            f"Table {table!r} has no integer column {id_name!r}, which its rows are ordered by. "
            "Restore the column, or take the table out of the tables to ingest."
        )
    [sequence] = [row[5:] for row in found if row[0] == id_name]
    return Description(table, tuple(columns.values()), _broken_assumption(*sequence))


def _broken_assumption(
    increment: int | None,
    cache: int | None,
    cycle: bool | None,
) -> str | None:
    if increment is None:
        return "no sequence draws its ids"
    faults = {
        f"its sequence has CACHE {cache}: sessions draw ids in blocks": cache != 1,
        f"its sequence descends by {-increment}": increment < 0,
        "its sequence cycles": bool(cycle),
    }
    return "; ".join(fault for fault, present in faults.items() if present) or None


def _use_our_spelling(connection: Connection) -> None:
    """Make a session that was not opened by us spell dates and intervals as ours do."""
    for name, value in _SESSION.items():
        if not connection.parameter_statuses.get(name, "").startswith(value):
            connection.run(f"SET {name} = {literal(value)}")


def _read(
    description: Description,
    connection: Connection,
    condition: str,
    *,
    among: str = "",
    limit: int | None = None,
) -> pd.DataFrame:
    from services.ingestion.columns import aggregates, decode_frame

    id_name = identifier(description.id_column)
    [(rows, in_transaction, on_standby, *values)] = connection.run(
        _READ.format(
            aggregates=", ".join(aggregates(description.columns)),
            table=identifier(description.table),
            id=id_name,
            among=among,
            condition=condition.format(id=id_name),
            limit="" if limit is None else f" LIMIT {int(limit)}",
        )
    )
    if in_transaction or on_standby:
        raise SourceError(
            f"{description.table!r} can't be read exactly "
            + (
                "inside a transaction: what commits meanwhile would stay invisible. Commit first."
                if in_transaction
                else "on a standby: it does not know who is writing. Connect to the primary."
            )
        )
    frame = decode_frame(description.columns, rows, values)
    frame.attrs |= {"held_back_rows": 0, "waited_seconds": 0.0}
    return frame


def _gaps(row_id: int, ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the missing ids between `row_id` and the last of `ids` as rows of (first, last)."""
    import numpy as np

    before = np.concatenate(([row_id], ids[:-1])) if len(ids) else ids
    holes = np.flatnonzero(ids - before > 1)
    return np.column_stack((before[holes] + 1, ids[holes] - 1))


def _settle(
    description: Description,
    connection: Connection,
    rows: pd.DataFrame,
    row_id: int,
    gaps: np.ndarray[Any, Any],
    limit: int | None,
    wait_seconds: float,
) -> pd.DataFrame:
    """Return as many of the rows, and of those that came late, as no open writer can add to."""
    import pandas as pd

    started = time.monotonic()
    writers = _wait_for_writers(description.table, connection, wait_seconds)
    waited = time.monotonic() - started
    late = _read_gaps(description, connection, gaps, limit)
    if len(late):
        rows = pd.concat([rows, late]).sort_values(description.id_column, ignore_index=True)
    ids = rows[description.id_column].to_numpy()
    settled = int(ids[-1])
    if limit is not None and len(late) == limit:
        settled = int(late[description.id_column].iloc[-1])  # gaps above were not all read again
    if writers:
        open_gaps = _gaps(row_id, ids)
        settled = min(settled, int(open_gaps[0][0])) if len(open_gaps) else settled
    kept = rows[ids <= settled].head(limit) if limit is not None else rows[ids <= settled]
    held_back = int((ids > settled).sum()) if writers else 0
    if held_back:
        logger().warning(
            "Rows wait for a transaction that is still open",
            extra={
                "table": description.table,
                "held_back_rows": held_back,
                "missing_id": settled,
                "virtualtransactions": sorted(writers),
            },
        )
    kept.attrs = {"held_back_rows": held_back, "waited_seconds": waited}
    return kept


def _wait_for_writers(table: str, connection: Connection, wait_seconds: float) -> set[str]:
    """Wait for the transactions now writing to the table; return those that are open after that."""
    deadline = time.monotonic() + wait_seconds
    pause = _FIRST_POLL_SECONDS
    writers = _open_writers(table, connection)
    while writers and time.monotonic() < deadline:
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 2, _LONGEST_POLL_SECONDS)
        writers &= _open_writers(table, connection)
    return writers


def _open_writers(table: str, connection: Connection) -> set[str]:
    found = connection.run(_OPEN_WRITERS.format(name=literal(identifier(table))))
    return {virtualtransaction for [virtualtransaction] in found}


def _read_gaps(
    description: Description,
    connection: Connection,
    gaps: np.ndarray[Any, Any],
    limit: int | None,
) -> pd.DataFrame:
    firsts, lasts = (",".join(map(str, column)) for column in gaps.T.tolist())
    among = f", unnest('{{{firsts}}}'::bigint[], '{{{lasts}}}'::bigint[]) AS gap(first, last)"
    condition = "t.{id} BETWEEN gap.first AND gap.last"
    return _read(description, connection, condition, among=among, limit=limit)
