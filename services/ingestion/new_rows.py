"""Which rows are new, and the proof that none is missing among them.

Ids are drawn from a sequence before their rows commit, so a row with a smaller id can appear after
a larger one was read, and `id > watermark` would never see it. Therefore, rows that were read count
only once every id missing among them, from the watermark on, is known to be missing for good:

1.  A missing id below one that was read was drawn before the read began (ids ascend, CACHE 1), by
    a transaction that held a RowExclusiveLock before it drew the id: an INSERT takes one on the
    table, and every call of nextval takes one on the sequence.
2.  A transaction keeps its locks until it ends, and its rows are visible before it releases them.
3.  So: list the transactions that hold such a lock now, wait for exactly those to end, and read
    the missing ids again. An id that is still missing was rolled back (or its row deleted); nobody
    can insert it any more.

Without a gap there is nothing to wait for, and no further statement. If a writer stays open for
longer than a read may wait, the rows above the first id still missing are held back until the next
run.

The assumption: ids are drawn from the table's own sequence, in the transaction that inserts them.
A WARNING says so if the table breaks it: by its sequence (CACHE, descending, cycling), by ids drawn
in blocks, or by logical replication. docs/exactness.md has the whole argument.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from pg8000.native import identifier

from services.ingestion.writers import describe, wait_for_writers
from shared.contracts.contract import personal_data
from shared.personal import NONE
from shared.postgres.catalogue import read_description
from shared.postgres.categories import plain, together
from shared.postgres.proof import PROOF, prove
from shared.postgres.reader import Batch, read_batch
from shared.postgres.refusals import database_errors
from shared.postgres.statement import read_rows
from shared.tables import Table
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Collection

    import pandas as pd
    from pg8000.native import Connection

    from services.ingestion.writers import Writer
    from shared.personal import PersonalData
    from shared.postgres.catalogue import Description

    type Gaps = np.ndarray[Any, np.dtype[np.int64]]  # one row (first, last) per gap

WRITER_WAIT_SECONDS = 30.0

_ABOVE = "{table} AS t WHERE t.{id} > {row_id}"
_WITHOUT_ID = "SELECT {proof}, EXISTS (SELECT FROM {table} AS t WHERE t.{id} IS NULL)"
# The rows in the gaps, by one index scan for each gap. The inner ORDER BY keeps the planner from
# flattening the subquery: it would then compare every row of the table with every gap, which it
# takes for cheap if there is a limit.
_IN_GAPS = """
unnest(string_to_array('{firsts}', ',')::bigint[], string_to_array('{lasts}', ',')::bigint[])
    AS gap(first, last)
CROSS JOIN LATERAL (
    SELECT {read} FROM {table} AS t WHERE t.{id} BETWEEN gap.first AND gap.last
    ORDER BY t.{id}{limit}
) AS t"""


def get_table_data(
    table: str,
    row_id: int,
    connection: Connection,
    limit: int | None = None,
    *,
    wait_seconds: float = WRITER_WAIT_SECONDS,
    hash_key: str | None = None,
) -> pd.DataFrame:
    """Return the rows with an id above `row_id`, ascending by id, with none missing among them.

    Args:
        table: a table with an integer column `<table>_id`.
        row_id: the watermark: rows up to and including it are left out.
        connection: a session in autocommit, on a primary.
        limit: how many rows to return at most; fewer if they are long, more if the last ones share
            their id. If None, all rows.
        wait_seconds: how long to wait for open writers if an id is missing.
        hash_key: the key of the hashes that land in place of personal data.

    Returns:
        The rows as they land, in the types that `shared.postgres.columns` lists; hashes are text.
        If there are none, an empty frame with the table's columns. Rows above an id that an open
        writer may yet fill are left out.

    Raises:
        ConfigError: the table's contract is not valid, or hashes a column and there is no key.
        SourceError: no such table or id column, no permission, inside a transaction, on a standby,
            a column of personal data is missing.
        SourceUnavailableError: the database can't be reached, or the connection broke.
    """
    asked = Table(table)
    personal = personal_data(asked, hash_key)
    batch = read_new_rows(
        asked, row_id, connection, limit, wait_seconds=wait_seconds, personal=personal
    )
    return plain(batch.rows)


def read_new_rows(
    table: Table,
    row_id: int,
    connection: Connection,
    limit: int | None = None,
    *,
    wait_seconds: float = WRITER_WAIT_SECONDS,
    personal: PersonalData = NONE,
    after: Batch | None = None,
) -> Batch:
    """Return the rows that `get_table_data` returns, as a `Batch`; for `after` see `read_batch`.

    Raises:
        SourceError, SourceUnavailableError: see `get_table_data`.
    """
    with database_errors(f"Reading {table.name!r}"):
        description = read_description(table, connection, personal)
        batch = read_batch(description, connection, _ABOVE, int(row_id), limit, after=after)
        batch = replace(batch, lacks_ids=_lacks_ids(description, connection))
        because = description.broken_assumption or _off_step(description, row_id, batch.ids)
        if because:
            logger().warning(
                "Late rows of this table may be missed",
                extra={"table": table.name, "because": because},
            )
        gaps = _gaps(row_id, batch.ids)
        if not len(gaps):
            return batch
        writers, waited = wait_for_writers(description, connection, wait_seconds)
        filled = replace(_fill(batch, gaps, connection, limit), waited=waited)
        return _below_gaps(filled, row_id, connection, writers) if writers else filled


def _lacks_ids(description: Description, connection: Connection) -> bool:
    """Tell whether the table has rows without an id."""
    if not description.id_is_nullable:
        return False
    table = description.table
    names = {"table": identifier(table.name), "id": identifier(table.id_column)}
    [[proof, found]] = connection.run(_WITHOUT_ID.format(**names, proof=PROOF))
    prove(table.name, proof, connection)
    return bool(found)


def _off_step(description: Description, row_id: int, ids: pd.Series[int]) -> str | None:
    """Return why ids were not drawn by the INSERT, if they are between those of the sequence."""
    known = ids.to_numpy() if row_id <= 0 else np.concatenate(([row_id], ids.to_numpy()))
    if not (np.diff(known) % description.step).any():
        return None
    return (
        f"its sequence has INCREMENT {description.step}, and there are ids between its steps: "
        "applications draw ids in blocks"
    )


def _gaps(row_id: int, ids: pd.Series[int]) -> Gaps:
    """Return the missing ids between `row_id` and the last of `ids`."""
    present = np.concatenate(([row_id], ids.to_numpy()))
    holes = np.flatnonzero(np.diff(present) > 1)
    return np.column_stack((present[holes] + 1, present[holes + 1] - 1))


def _fill(batch: Batch, gaps: Gaps, connection: Connection, limit: int | None) -> Batch:
    """Return the batch with the rows that were committed late, in the order of the ids.

    Its end is cut off, but never between rows of one id, if that makes more rows than `limit`, or
    if there were so many late rows that not all gaps were read again.
    """
    firsts, lasts = (",".join(map(str, column)) for column in gaps.T.tolist())
    late = read_rows(batch.description, connection, _IN_GAPS, limit, firsts=firsts, lasts=lasts)
    filled, id_column = batch, batch.description.table.id_column
    if len(late.frame):
        rows = together([batch.source, late.frame]).sort_values(id_column, ignore_index=True)
        filled = replace(batch, source=rows)
    if late.more:
        filled = _up_to(filled, late.frame[id_column].iloc[-1])
    if limit is not None and len(filled.source) > limit:
        filled = _up_to(filled, filled.ids.iloc[limit - 1])
    return replace(filled, more=batch.more or filled.last_id < batch.last_id)


def _up_to(batch: Batch, row_id: int) -> Batch:
    return replace(batch, source=batch.source[batch.ids <= row_id])


def _below_gaps(
    batch: Batch, row_id: int, connection: Connection, writers: Collection[Writer]
) -> Batch:
    """Return the rows below the first gap, which one of the open `writers` may yet fill."""
    gaps = _gaps(row_id, batch.ids)
    if not len(gaps):
        return batch
    missing_id = int(gaps[0][0])
    settled = batch.source[batch.ids < missing_id]
    held_back = len(batch.source) - len(settled)
    logger().warning(
        "Rows are held back by a transaction that is still open. They land once it has ended: "
        "commit it, or end it with the statement in `end_with`",
        extra={
            "table": batch.description.table.name,
            "held_back_rows": held_back,
            "missing_id": missing_id,
            "transactions": describe(writers, connection),
        },
    )
    return replace(batch, source=settled, held_back=held_back, more=False)
