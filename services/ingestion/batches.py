"""Reading rows in portions: no more at once than the server and the Lambda can hold.

A statement reads as many rows as the length of those before lets it, and at most twice as many as
those, lest longer ones come as a surprise; if the table has very long ones, only as many as fit
into memory. A batch is made of as many statements as its limit takes, unless it grows too large
before. For rows above a watermark that is as exact as a single statement, for each reads on from an
id that the one before has read: an id missing below that was drawn before a row was seen above it,
as `source` has it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pg8000.native import identifier, literal

from services.ingestion.tables import id_column
from shared.errors import SourceError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pandas as pd
    from pg8000.native import Connection

    from services.ingestion.columns import Column

_FIRST_VALUES = 60_000  # of the first statement: how long rows are is not known yet
_STATEMENT_VALUES = 600_000  # of any other
_STATEMENT_CHARACTERS = 8_000_000  # of any other, if rows go on to be as long as they were
BATCH_BYTES = 32_000_000

# now() is when the transaction began: another moment than the statement's inside a block only.
_READ = """
WITH {cte} AS ({cut})
SELECT count(*), now() <> statement_timestamp(), pg_is_in_recovery(),
       EXISTS (SELECT FROM {cte}), (
    SELECT count(*) FROM pg_attribute
    WHERE attrelid = to_regclass({name}) AND attnum > 0 AND NOT attisdropped
), {aggregates}
FROM (SELECT t.* FROM {rows} ORDER BY t.{id}{limit}) AS batch
"""
# As long as a name can be; so no table that has an id column `<table>_id` is called like it.
_CTE = "cut".ljust(63, "_")
_NO_CUT = "SELECT WHERE false"
# The first row behind those that are as long as a statement may read. Not every read looks for it,
# because that takes a second look at the rows, as far as they are read.
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


@dataclass(frozen=True, slots=True)
class Description:
    """What the catalogue says of a table.

    Attributes:
        table: its name.
        columns: its columns, in order.
        sequences: the oids of those that its ids are drawn from.
        broken_assumption: why its ids may be drawn out of order, or None.
        has_long_rows: whether parts of some rows are so long that they are kept aside (TOAST).
    """

    table: str
    columns: tuple[Column, ...]
    sequences: tuple[int, ...]
    broken_assumption: str | None
    has_long_rows: bool

    @property
    def id_column(self) -> str:
        """The name of the column that orders the rows."""
        return id_column(self.table)

    def __deepcopy__(self, _: object) -> Description:
        """Return itself: pandas copies `attrs` with every selection, and this never changes."""
        return self


class Portion(NamedTuple):
    """What was read.

    Attributes:
        rows: the rows, by id.
        size: how many characters the server sent.
        more: whether it ended before the rows did.
    """

    rows: pd.DataFrame
    size: int
    more: bool


def read_on(
    description: Description,
    connection: Connection,
    rows_sql: str,
    row_id: int,
    limit: int | None = None,
    **bounds: int,
) -> Portion:
    """Read rows from an id on: `limit` at most, and less if they get too large; all without it.

    Args:
        description: of the table.
        connection: a session in autocommit, on a primary.
        rows_sql: what to read from, as of `read`, with a bound {row_id}.
        row_id: the id.
        limit: how many rows to read.
        bounds: for `rows_sql`.

    Raises:
        SourceError: inside a transaction, on a standby.
        SourceUnavailableError: the table got a column since it was described.
    """
    import pandas as pd

    frames: list[pd.DataFrame] = []
    count, size, more = 0, 0, True
    while not frames or (more and (limit is None or (count < limit and size < BATCH_BYTES))):
        rows = _statement_rows(len(description.columns), count, size)
        rows = rows if limit is None else min(rows, limit - count)
        above = int(frames[-1][description.id_column].iloc[-1]) if frames else row_id
        found = read(description, connection, rows_sql, rows, **bounds, row_id=above)
        frames.append(found.rows)
        count, size, more = count + len(found.rows), size + found.size, found.more
    return Portion(pd.concat(frames, ignore_index=True) if frames[1:] else frames[0], size, more)


def _statement_rows(columns: int, count: int, size: int) -> int:
    """Return how many rows to ask for, after `count` that were `size` long."""
    if not count:
        return max(1, _FIRST_VALUES // columns)
    as_long = _STATEMENT_CHARACTERS * count // size
    return max(1, min(2 * count, _STATEMENT_VALUES // columns, as_long))


def read(
    description: Description,
    connection: Connection,
    rows_sql: str,
    limit: int | None,
    **bounds: int | str,
) -> Portion:
    """Read rows by one statement; by a second, careful one if values are not as declared.

    Args:
        description: of the table.
        connection: a session in autocommit, on a primary.
        rows_sql: what to read from: it calls the rows `t`, and may end in a WHERE. For `format`,
            with {table}, {id}, {limit} and the `bounds`.
        limit: how many rows to read at most.
        bounds: for `rows_sql`.

    Raises:
        SourceError, SourceUnavailableError: as `read_on`.
    """
    from services.ingestion.columns import MiscountError

    statement = _Statement(description, connection, rows_sql, limit, bounds)
    try:
        return statement.read(careful=False)
    except MiscountError:
        return statement.read(careful=True)


def refuse_inexact_reads(table: str, *, in_transaction: bool, on_standby: bool) -> None:
    """Raise a SourceError that says why, if a table was read where no read is exact."""
    if in_transaction or on_standby:
        raise SourceError(
            f"{table!r} can't be read exactly "
            + (
                "inside a transaction: what commits meanwhile would stay invisible. Commit first."
                if in_transaction
                else "on a standby: it does not know who is writing. Connect to the primary."
            )
        )


@dataclass(frozen=True, slots=True)
class _Statement:
    """One statement that reads rows, see `read`."""

    description: Description
    connection: Connection
    rows_sql: str
    limit: int | None
    bounds: Mapping[str, int | str]

    def read(self, *, careful: bool) -> Portion:
        """Return the rows; `careful` and the MiscountError are as of `columns.decode_frame`."""
        from services.ingestion.columns import aggregates, decode_frame

        columns = self.description.columns
        expressions = ", ".join(aggregates(columns, careful=careful))
        [(count, in_transaction, on_standby, is_cut, declared, *values)] = self.connection.run(
            self._sql(expressions)
        )
        refuse_inexact_reads(
            self.description.table, in_transaction=in_transaction, on_standby=on_standby
        )
        if declared != len(columns):  # a column that is gone or of another type is an error anyway
            raise SourceUnavailableError(
                f"{self.description.table!r} got a column while it was read. Nothing is lost: the "
                "next run reads it as it is now."
            )
        size = sum(len(value or "") for value in values)
        rows = decode_frame(columns, count, values, careful=careful)
        return Portion(rows, size, is_cut or count == self.limit)

    def _sql(self, expressions: str) -> str:
        names = {
            "table": identifier(self.description.table),
            "name": literal(identifier(self.description.table)),
            "id": identifier(self.description.id_column),
            "cte": _CTE,
            "limit": "" if self.limit is None else f" LIMIT {int(self.limit)}",
        }
        rows = self.rows_sql.format(**names, **self.bounds)
        cut = _NO_CUT
        if self.description.has_long_rows:
            cut = _CUT.format(**names, rows=rows, bytes=BATCH_BYTES)
            rows = _BELOW_CUT.format(**names, rows=rows)
        return _READ.format(**names, cut=cut, rows=rows, aggregates=expressions)
