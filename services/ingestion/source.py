"""The PostgreSQL side: which rows are new, and the proof that none is missing among them.

Ids are drawn from a sequence before their rows commit, so a row with a smaller id can appear after
a larger one was read, and `id > watermark` would never see it. Rows read therefore count only when
every id missing among them, from the watermark on, is known to be missing for good:

1.  A missing id below one that was read was drawn before the read began (ids ascend, CACHE 1), by
    a transaction that held a RowExclusiveLock before it drew the id: an INSERT takes one on the
    table, and nextval one on the sequence, whoever calls it.
2.  A transaction keeps its locks until it ends, and its rows are visible before it lets go.
3.  So: list the transactions that hold such a lock now, wait for exactly those to end, and read
    the missing ids again. What is still missing was rolled back; nobody can insert it any more.

That is how CREATE INDEX CONCURRENTLY waits for writers. Without a gap there is nothing to wait
for, and no further statement. A writer that stays open for longer than a read may wait holds back
the rows above the first id still missing, until the next run.

The assumption: ids come from the table's own sequence, drawn in the transaction that inserts
them. Where a sequence can't keep it (CACHE, descending, cycling) a WARNING says so.
docs/exactness.md argues all of this at length. Only this module, `batches` and `versions`
have SQL of their own; `columns` adds the expressions per type.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from pg8000.native import identifier, literal

from services.ingestion.batches import Description, read, read_on
from services.ingestion.tables import id_column
from shared.database import database_errors, set_spelling
from shared.errors import SourceError
from shared.telemetry import logger

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd
    from pg8000.native import Connection

WRITER_WAIT_SECONDS = 30.0
_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.01, 0.5

# The base of a domain is looked up, because a domain travels like what it is made of. The sequences
# are the one the column owns (serial, identity) and the one its default draws from; mostly it is
# the same.
_DESCRIBE = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), base.typname, base.typcategory,
       NOT a.attnotnull, drawn.*, (
    WITH RECURSIVE family AS (
        SELECT to_regclass({name})::oid AS oid
        UNION SELECT inhrelid FROM family JOIN pg_inherits ON inhparent = family.oid
    )
    SELECT coalesce(sum(pg_relation_size(nullif(reltoastrelid, 0))), 0) > 0
    FROM pg_class JOIN family USING (oid)
)
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
CROSS JOIN LATERAL (
    SELECT array_agg(seqrelid::bigint), min(seqincrement), max(seqcache), bool_or(seqcycle)
    FROM pg_sequence WHERE seqrelid IN (
        SELECT d.objid FROM pg_depend AS d WHERE d.deptype IN ('a', 'i')
            AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
            AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
        UNION ALL
        SELECT d.refobjid FROM pg_depend AS d JOIN pg_attrdef AS f
            ON f.oid = d.objid AND f.adrelid = a.attrelid AND f.adnum = a.attnum
        WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
    )
) AS drawn
WHERE a.attrelid = to_regclass({name}) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

_ABOVE = "{table} AS t WHERE t.{id} > {row_id}"
_BETWEEN = _ABOVE + " AND t.{id} <= {to_row_id}"
# One look into the index for each gap. The inner ORDER BY keeps the planner from merging the two:
# it would hold every row of the table against every gap, and think that cheap if there is a limit.
_IN_GAPS = """
unnest(string_to_array('{firsts}', ',')::bigint[], string_to_array('{lasts}', ',')::bigint[])
    AS gap(first, last)
CROSS JOIN LATERAL (
    SELECT t.* FROM {table} AS t WHERE t.{id} BETWEEN gap.first AND gap.last ORDER BY t.{id}{limit}
) AS t"""

# Every transaction that may yet commit rows into the table, its partitions or children, or through
# its partitioned parents, or that drew an id it has still to insert. A prepared transaction has no
# pid; it keeps its virtualtransaction, or before PostgreSQL 13.5 gets one that begins with -1.
_OPEN_WRITERS = """
WITH RECURSIVE up AS (
    SELECT to_regclass({name})::oid AS oid
    UNION SELECT inhparent FROM up JOIN pg_inherits ON inhrelid = up.oid
), family AS (
    SELECT oid FROM up UNION SELECT unnest({sequences}::bigint[])::oid
    UNION SELECT inhrelid FROM family JOIN pg_inherits ON inhparent = family.oid
)
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation IN (SELECT oid FROM family) AND pid IS DISTINCT FROM pg_backend_pid()
"""


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
        limit: how many rows to return at most; and if they are long, only as many as fit into
            memory. All rows without it.
        wait_seconds: how long to wait for open writers, if an id is missing.

    Returns:
        The rows, in the types `services.ingestion.columns` lists; with the right columns when
        there is none. `attrs["held_back_rows"]` counts the rows that were read and not returned,
        because a writer that may yet fill a gap below them is still open, `attrs["more"]` says
        whether the next read may find more for another reason, and `attrs["waited_seconds"]` how
        long writers were waited for. `attrs["description"]` is what the catalogue says of the
        table.

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
        found = read_on(description, connection, _ABOVE, int(row_id), limit)
        rows, more, held_back, waited = found.rows, found.more, 0, 0.0
        gaps = _gaps(row_id, rows[description.id_column])
        if len(gaps):
            writers, waited = _wait_for_writers(description, connection, wait_seconds)
            filled, is_cut = _fill(rows, gaps, description, connection, limit)
            rows = _below_gaps(filled, row_id, description, writers) if writers else filled
            held_back = len(filled) - len(rows)
            more = (more or is_cut) and not held_back
        rows.attrs = {
            "description": description,
            "held_back_rows": held_back,
            "waited_seconds": waited,
            "more": more,
        }
        return rows


def get_settled_rows(
    table: str, row_id: int, to_row_id: int, connection: Connection, limit: int | None = None
) -> pd.DataFrame:
    """Return the rows above `row_id` up to `to_row_id`, of a range that is known to be settled.

    With a `limit`, `attrs["more"]` says whether the next read may find more, as `get_table_data`.

    Raises:
        SourceError, SourceUnavailableError: as `get_table_data`.
    """
    with database_errors(f"Reading {table!r}"):
        description = describe(table, connection)
        bounds = {"row_id": int(row_id), "to_row_id": int(to_row_id)}
        found = read_on(description, connection, _BETWEEN, limit=limit, **bounds)
        found.rows.attrs = {"description": description, "more": found.more}
        return found.rows


def describe(table: str, connection: Connection) -> Description:
    """Return what the catalogue says of a table.

    Raises:
        SourceError: the table is not there or not visible, or has no integer id column.
    """
    from services.ingestion.columns import Column

    set_spelling(connection)
    found = connection.run(_DESCRIBE.format(name=literal(identifier(table))))
    columns = {name: Column(name, *rest) for name, *rest in (row[:5] for row in found)}
    if not columns:
        raise SourceError(
            f"There is no table {table!r}, or it is not on the role's search_path, or the role "
            "lacks USAGE on its schema. Restore it, or take it out of the tables to ingest."
        )
    id_name = id_column(table)
    if id_name not in columns or columns[id_name].base not in {"int2", "int4", "int8"}:
        raise SourceError(
            f"Table {table!r} has no integer column {id_name!r}, which its rows are ordered by. "
            "Restore the column, or take the table out of the tables to ingest."
        )
    [(sequences, *drawn, has_long_rows)] = [row[5:] for row in found if row[0] == id_name]
    return Description(
        table,
        tuple(columns.values()),
        tuple(sequences or ()),
        _broken_assumption(*drawn),
        has_long_rows,
    )


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


def _gaps(row_id: int, ids: pd.Series[int]) -> np.ndarray[Any, Any]:
    """Return the missing ids between `row_id` and the last of `ids` as rows of (first, last)."""
    import numpy as np

    present = np.concatenate(([row_id], ids.to_numpy()))
    holes = np.flatnonzero(np.diff(present) > 1)
    return np.column_stack((present[holes] + 1, present[holes + 1] - 1))


def _fill(
    rows: pd.DataFrame,
    gaps: np.ndarray[Any, Any],
    description: Description,
    connection: Connection,
    limit: int | None,
) -> tuple[pd.DataFrame, bool]:
    """Return the rows with those that came late in their places; tell whether the end is cut off.

    It is if that makes more than `limit`, or if not all gaps were read again because so many came.
    """
    import pandas as pd

    id_name = description.id_column
    firsts, lasts = (",".join(map(str, column)) for column in gaps.T.tolist())
    late = read(description, connection, _IN_GAPS, limit, firsts=firsts, lasts=lasts)
    filled = rows
    if len(late.rows):
        filled = pd.concat([rows, late.rows]).sort_values(id_name, ignore_index=True)
    if late.more:
        filled = filled[filled[id_name] <= late.rows[id_name].iloc[-1]]
    filled = filled.iloc[:limit]
    return filled, bool(filled[id_name].iloc[-1] < rows[id_name].iloc[-1])


def _below_gaps(
    rows: pd.DataFrame, row_id: int, description: Description, writers: set[str]
) -> pd.DataFrame:
    """Return the rows below the first gap, which one of the open `writers` may yet fill."""
    ids = rows[description.id_column]
    gaps = _gaps(row_id, ids)
    if not len(gaps):
        return rows
    missing_id = int(gaps[0][0])
    settled = rows[ids < missing_id]
    logger().warning(
        "Rows wait for a transaction that is still open",
        extra={
            "table": description.table,
            "held_back_rows": len(rows) - len(settled),
            "missing_id": missing_id,
            "virtualtransactions": sorted(writers),
        },
    )
    return settled


def _wait_for_writers(
    description: Description, connection: Connection, wait_seconds: float
) -> tuple[set[str], float]:
    """Wait for those who write to the table now; return who is left, and the seconds waited."""
    started = time.monotonic()
    deadline = started + wait_seconds
    pause = _FIRST_POLL_SECONDS
    writers = _open_writers(description, connection)
    while writers and time.monotonic() < deadline:
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 2, _LONGEST_POLL_SECONDS)
        listed = _open_writers(description, connection)
        writers = {writer for writer in listed if writer in writers or writer.startswith("-1/")}
    return writers, time.monotonic() - started


def _open_writers(description: Description, connection: Connection) -> set[str]:
    name = literal(identifier(description.table))
    sequences = literal(list(description.sequences))
    found = connection.run(_OPEN_WRITERS.format(name=name, sequences=sequences))
    return {virtualtransaction for [virtualtransaction] in found}
