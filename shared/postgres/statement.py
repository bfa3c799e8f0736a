"""The statement that reads rows of a table, and what proves that it read them exactly.

The quick statement takes the rows for short. If one is long, it is replaced by a careful one, which
measures the rows before it reads them, and ends with the row that reaches its limit. Rows with the
same id are never parted: a read that goes on above that id would skip the rest of them.
"""

from __future__ import annotations

from contextlib import contextmanager, suppress
from dataclasses import dataclass
from sys import getsizeof
from typing import TYPE_CHECKING, NamedTuple

from pg8000.exceptions import DatabaseError
from pg8000.native import identifier, literal

from shared.errors import SourceUnavailableError
from shared.postgres.catalogue import read_description
from shared.postgres.columns import aggregates, decode_frame, lengths, rendered
from shared.postgres.decoding import MiscountError
from shared.postgres.proof import PROOF, prove
from shared.postgres.refusals import sqlstate

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd
    from pg8000.native import Connection

    from shared.postgres.catalogue import Description

STATEMENT_BYTES = 8_000_000  # a statement ends before it, or with the row that reaches it
# If all values of a quick statement were as long as they may be, it would read so many times the
# bytes that it may read: so one value may be that much longer than the average.
_LONGER = 4

# Rows as one row of aggregates, one per column; with the columns that they have, because the
# description of the table is older. Nothing can change the columns while a statement reads it.
_ROWS = """
{cut}SELECT count(*), {proof}, {is_cut}, (
    SELECT json_agg(json_build_array(attname, format_type(atttypid, atttypmod)) ORDER BY attnum)
    FROM pg_attribute WHERE attrelid = to_regclass({name}) AND attnum > 0 AND NOT attisdropped
), {aggregates}
FROM ({rows}) AS batch
"""
_IN_ORDER = "SELECT {columns} FROM {rows} ORDER BY t.{id}{limit}"
_LIMIT = " FETCH FIRST {limit} ROWS WITH TIES"
# As long as a name can be, so that no table has it: the name of its id column would be longer.
_CUT = "cut".ljust(63, "_")
# The id of the row that reaches the limit, if one does. The window has no order, so that it takes
# the rows in the order they have, and measures none behind that row.
_WITH_CUT = """\
WITH {cut} AS MATERIALIZED (
    SELECT id FROM (
        SELECT id, sum(bytes) OVER (ROWS UNBOUNDED PRECEDING) AS bytes FROM ({measured}) AS one
    ) AS sums WHERE bytes >= {size} LIMIT 1
)
"""
_UP_TO_CUT = """(SELECT {read} FROM {rows}) AS t
WHERE t.{id} <= coalesce((SELECT id FROM {cut}), 9223372036854775807)"""

# undefined_column, undefined_function, datatype_mismatch: a column is gone or of another type.
_OTHER_COLUMNS = {"42703", "42883", "42804"}


class Rows(NamedTuple):
    """What a statement has read.

    Attributes:
        frame: the rows as they are in the source, without the dropped columns, ascending by id, in
            the types that `shared.postgres.columns` lists.
        size: how many bytes the server's answer took in memory: four times as many as were sent, if
            there is one emoji in a text.
        more: whether there may be more rows.
        careful: whether it took the careful statement.
    """

    frame: pd.DataFrame
    size: int
    more: bool
    careful: bool


def read_rows(
    description: Description,
    connection: Connection,
    rows_sql: str,
    limit: int | None,
    *,
    careful: bool = False,
    **bounds: int | str,
) -> Rows:
    """Read rows by one statement, and by a second, careful one if the first miscounts.

    Args:
        description: the table's.
        connection: a session in autocommit, on a primary.
        rows_sql: what follows FROM: it names the rows `t`, and may end in a WHERE. `format` fills
            in {table}, {id}, {limit}, the `bounds`, and {read}: what to select of `t`.
        limit: with how many rows to end, or with the last one of the same id. If it is None, there
            is no limit, and the statement is careful.
        careful: whether to begin with the careful statement.
        bounds: values of what else `rows_sql` contains.

    Raises:
        SourceError: inside a transaction, on a standby, in a session that is not ours.
        SourceUnavailableError: the table was declared anew since it was described.
    """
    statement = _Statement(description, connection, rows_sql, limit, bounds)
    if not careful and limit is not None:
        with suppress(MiscountError):  # the careful statement can't miscount
            return statement.read(careful=False)
    return statement.read(careful=True)


@dataclass(frozen=True, slots=True)
class _Statement:
    """One statement that reads rows, see `read_rows`."""

    description: Description
    connection: Connection
    rows_sql: str
    limit: int | None
    bounds: Mapping[str, int | str]

    def read(self, *, careful: bool) -> Rows:
        """Return the rows; see `columns.decode_frame` for `careful` and the MiscountError."""
        name, columns = self.description.table.name, self.description.read_columns
        with declared_anew_errors(self.description, self.connection):
            [row] = self.connection.run(self._sql(careful=careful))
        count, proof, is_cut, declared, *values = row
        prove(name, proof, self.connection)
        if declared != [[each.name, each.type_name] for each in self.description.columns]:
            raise _declared_anew(name)
        if not careful and self._is_too_long(values):
            raise MiscountError
        frame = decode_frame(columns, count, values, careful=careful)
        more = is_cut or (self.limit is not None and count >= self.limit)
        return Rows(frame, sum(map(getsizeof, values)), more, careful)

    def _is_too_long(self, values: Sequence[str | None]) -> bool:
        characters = sum(len(value or "") for value in values)
        return characters > STATEMENT_BYTES and bool(lengths(self.description.read_columns))

    def _sql(self, *, careful: bool) -> str:
        table, columns = self.description.table, self.description.read_columns
        names = {
            "table": identifier(table.name),
            "id": identifier(table.id_column),
            "limit": "" if self.limit is None else _LIMIT.format(limit=int(self.limit)),
            "cut": _CUT,
            "read": ", ".join(f"t.{identifier(column.name)}" for column in columns),
        }
        rows = self.rows_sql.format(**names, **self.bounds)
        cut = self._cut(names, rows) if careful else ""
        if cut:
            rows = _UP_TO_CUT.format(**names, rows=rows)
        longest = 0 if careful else self._longest()
        return _ROWS.format(
            name=literal(names["table"]),
            cut=cut,
            is_cut=f"EXISTS (SELECT FROM {_CUT})" if cut else "false",
            proof=PROOF,
            aggregates=", ".join(aggregates(columns, careful=careful, longest=longest)),
            rows=_IN_ORDER.format(**names, columns=", ".join(rendered(columns)), rows=rows),
        )

    def _cut(self, names: Mapping[str, str], rows: str) -> str:
        """Return the common table that says where the rows are cut; none if all are short."""
        measures = [f"coalesce({length}, 0)" for length in lengths(self.description.read_columns)]
        if not measures:
            return ""
        one = f"t.{names['id']} AS id, {' + '.join(['0::bigint', *measures])} AS bytes"
        measured = _IN_ORDER.format(**names, columns=one, rows=rows)
        return _WITH_CUT.format(cut=_CUT, measured=measured, size=STATEMENT_BYTES)

    def _longest(self) -> int:
        """Return how long a value may be in a quick statement, in bytes."""
        count = len(lengths(self.description.read_columns)) * (self.limit or 1)
        return _LONGER * STATEMENT_BYTES // max(1, count)


@contextmanager
def declared_anew_errors(description: Description, connection: Connection) -> Iterator[None]:
    """Tell of a statement that failed because the table has other columns than were described.

    Raises:
        SourceUnavailableError: it has.
    """
    try:
        yield
    except DatabaseError as error:
        if sqlstate(error) in _OTHER_COLUMNS:
            now = read_description(description.table, connection)
            if now.columns != description.columns:
                raise _declared_anew(description.table.name) from error
        raise


def _declared_anew(name: str) -> SourceUnavailableError:
    return SourceUnavailableError(
        f"{name!r} was declared anew while it was read. Nothing is lost: the next run reads it as "
        "it is now."
    )
