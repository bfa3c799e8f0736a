"""Reads rows in batches that fit into the memory of the server and of the Lambda function.

A statement reads as many rows as the length of the previous rows suggests, but at most twice as
many as those, because longer ones may follow. From a table with very long rows it reads only as
many as fit into memory. A batch takes as many statements as its limit needs, unless it grows too
large first. For rows above a watermark this is as exact as a single statement: each statement
continues from an id that the previous one has read, so an id missing below that one was drawn
before a row above it was seen (see `services.ingestion.new_rows`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pandas as pd
from pg8000.exceptions import DatabaseError
from pg8000.native import identifier, literal

from shared.errors import SourceUnavailableError
from shared.postgres.catalogue import read_description
from shared.postgres.columns import MiscountError, aggregates, decode_frame
from shared.postgres.proof import PROOF, prove
from shared.postgres.refusals import database_errors, sqlstate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pg8000.native import Connection

    from shared.postgres.catalogue import Description
    from shared.tables import Table

_FIRST_VALUES = 60_000  # in the first statement, when the length of rows is not known yet
_STATEMENT_VALUES = 600_000  # in any later statement
_STATEMENT_CHARACTERS = 8_000_000  # in any later statement, if rows stay as long as they were
BATCH_BYTES = 32_000_000  # a batch ends with the statement that reaches it

# Rows as one row of aggregates, one per column; with the columns that they have, because the
# description of the table is older. Nothing can change the columns while a statement reads it.
_ROWS = """
WITH {cte} AS ({cut})
SELECT count(*), {proof}, EXISTS (SELECT FROM {cte}), (
    SELECT json_agg(json_build_array(attname, format_type(atttypid, atttypmod)) ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = to_regclass({name}) AND attnum > 0 AND NOT attisdropped
), {aggregates}
FROM (SELECT t.* FROM {rows} ORDER BY t.{id}{limit}) AS batch
"""
# As long as a name can be, so that no table has it: the name of its id column would be longer.
_CTE = "cut".ljust(63, "_")
_NO_CUT = "SELECT WHERE false"
# The id of the first row beyond what one statement may read. Only for tables with long rows,
# because it reads the rows a second time.
_CUT = """
SELECT {id} AS id FROM (
    SELECT t.{id}, sum(octet_length((t.*)::text)) OVER (
        ORDER BY t.{id} ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
    ) AS bytes_before
    FROM (SELECT t.* FROM {rows} ORDER BY t.{id}{limit}) AS t
) AS measured
WHERE bytes_before >= {bytes} ORDER BY {id} LIMIT 1"""
_BELOW_CUT = """(SELECT t.* FROM {rows}) AS t
WHERE t.{id} < coalesce((SELECT id FROM {cte}), 9223372036854775807)"""

# undefined_column, undefined_function, datatype_mismatch: a column is gone or of another type.
_OTHER_COLUMNS = {"42703", "42883", "42804"}

_RANGE = "{table} AS t WHERE t.{id} > {row_id} AND t.{id} <= {to_row_id}"


@dataclass(frozen=True, slots=True)
class Batch:
    """Rows of a table that were read together; every read of rows returns one.

    Attributes:
        description: the table's.
        rows: the rows, ascending by id, in the types that `shared.postgres.columns` lists; if there
            are none, an empty frame with the table's columns.
        size: how many characters the server sent for them.
        more: whether the next read may find more.
        held_back: how many rows were read but left out of `rows`, because a transaction that is
            still open may yet fill a gap below them.
        waited: how many seconds the read waited for open writers.
        is_ahead: whether the rows were read before they were asked for.
    """

    description: Description
    rows: pd.DataFrame
    size: int = 0
    more: bool = False
    held_back: int = 0
    waited: float = 0.0
    is_ahead: bool = False

    @property
    def ids(self) -> pd.Series[int]:
        """The ids of the rows, ascending."""
        return self.rows[self.description.table.id_column]

    @property
    def last_id(self) -> int:
        """The id of the last row; there must be one."""
        return int(self.ids.iloc[-1])


def read_settled_rows(
    table: Table, row_id: int, to_row_id: int, connection: Connection, limit: int | None = None
) -> Batch:
    """Return the rows above `row_id` up to `to_row_id`; the caller knows the range to be settled.

    Raises:
        SourceError: no such table or id column, no permission, inside a transaction, on a standby.
        SourceUnavailableError: the database can't be reached, or the connection broke.
    """
    with database_errors(f"Reading {table.name!r}"):
        description = read_description(table, connection)
        bounds = {"row_id": int(row_id), "to_row_id": int(to_row_id)}
        return read_batch(description, connection, _RANGE, limit=limit, **bounds)


def read_batch(
    description: Description,
    connection: Connection,
    rows_sql: str,
    row_id: int,
    limit: int | None = None,
    **bounds: int,
) -> Batch:
    """Read the rows above an id: at most `limit`, fewer if they are large; all if it is None.

    Args:
        description: the table's.
        connection: a session in autocommit, on a primary.
        rows_sql: what to read from, see `read_rows`; it contains {row_id}.
        row_id: the id to begin above.
        limit: how many rows to read at most.
        bounds: values of what else `rows_sql` contains.

    Raises:
        SourceError: inside a transaction, on a standby.
        SourceUnavailableError: the table was declared anew since it was described.
    """
    frames: list[pd.DataFrame] = []
    count, size, more = 0, 0, True
    while not frames or (more and (limit is None or (count < limit and size < BATCH_BYTES))):
        rows = _statement_rows(len(description.columns), count, size)
        rows = rows if limit is None else min(rows, limit - count)
        found = read_rows(description, connection, rows_sql, rows, **bounds, row_id=row_id)
        frames.append(found.rows)
        count, size, more = count + len(found.rows), size + found.size, found.more
        row_id = found.last_id if more else row_id
    together = pd.concat(frames, ignore_index=True) if frames[1:] else frames[0]
    return Batch(description, together, size, more)


def _statement_rows(columns: int, count: int, size: int) -> int:
    """Return how many rows to ask for, after `count` rows of `size` characters in all."""
    if not count:
        return max(1, _FIRST_VALUES // columns)
    as_long = _STATEMENT_CHARACTERS * count // size
    return max(1, min(2 * count, _STATEMENT_VALUES // columns, as_long))


def read_rows(
    description: Description,
    connection: Connection,
    rows_sql: str,
    limit: int | None,
    **bounds: int | str,
) -> Batch:
    """Read rows by one statement, and by a second, careful one if the first miscounts.

    Args:
        description: the table's.
        connection: a session in autocommit, on a primary.
        rows_sql: what follows FROM: it names the rows `t`, and may end in a WHERE. `format` fills
            in {table}, {id}, {limit} and the `bounds`.
        limit: how many rows to read at most; all if it is None.
        bounds: values of what else `rows_sql` contains.

    Raises:
        SourceError, SourceUnavailableError: see `read_batch`.
    """
    statement = _Statement(description, connection, rows_sql, limit, bounds)
    try:
        return statement.read(careful=False)
    except MiscountError:
        return statement.read(careful=True)


@dataclass(frozen=True, slots=True)
class _Statement:
    """One statement that reads rows, see `read_rows`."""

    description: Description
    connection: Connection
    rows_sql: str
    limit: int | None
    bounds: Mapping[str, int | str]

    def read(self, *, careful: bool) -> Batch:
        """Return the rows; see `columns.decode_frame` for `careful` and the MiscountError."""
        name, columns = self.description.table.name, self.description.columns
        expressions = ", ".join(aggregates(columns, careful=careful))
        try:
            [(count, proof, is_cut, declared, *values)] = self.connection.run(
                self._sql(expressions)
            )
        except DatabaseError as error:
            if self._is_declared_anew(error):
                raise _declared_anew(name) from error
            raise
        prove(name, proof, self.connection)
        if declared != [[column.name, column.type_name] for column in columns]:
            raise _declared_anew(name)
        size = sum(len(value or "") for value in values)
        rows = decode_frame(columns, count, values, careful=careful)
        return Batch(self.description, rows, size, is_cut or count == self.limit)

    def _is_declared_anew(self, error: DatabaseError) -> bool:
        """Tell whether the statement failed because the table has other columns by now."""
        if sqlstate(error) not in _OTHER_COLUMNS:
            return False
        now = read_description(self.description.table, self.connection)
        return now.columns != self.description.columns

    def _sql(self, expressions: str) -> str:
        table = self.description.table
        names = {
            "table": identifier(table.name),
            "name": literal(identifier(table.name)),
            "id": identifier(table.id_column),
            "cte": _CTE,
            "limit": "" if self.limit is None else f" LIMIT {int(self.limit)}",
        }
        rows = self.rows_sql.format(**names, **self.bounds)
        cut = _NO_CUT
        if self.description.has_long_rows:
            cut = _CUT.format(**names, rows=rows, bytes=BATCH_BYTES)
            rows = _BELOW_CUT.format(**names, rows=rows)
        return _ROWS.format(**names, cut=cut, rows=rows, proof=PROOF, aggregates=expressions)


def _declared_anew(name: str) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"{name!r} was declared anew while it was read. Nothing is lost: the next run reads it as "
        "it is now."
    )
