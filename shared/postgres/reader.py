"""Reads rows in batches that fit into the memory of the server and of the Lambda function.

A statement reads as many rows as the length of the previous rows suggests, but at most twice as
many as those, because longer ones may follow. A batch takes as many statements as its limit needs,
unless it grows too large first. For rows above a watermark this is as exact as a single statement:
each statement continues from an id that the previous one has read, so an id missing below that one
was drawn before a row above it was seen (see `services.ingestion.new_rows`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from shared.hashes import landed_rows
from shared.personal import NONE
from shared.postgres.catalogue import read_description
from shared.postgres.categories import together
from shared.postgres.columns import has_rendered
from shared.postgres.refusals import database_errors
from shared.postgres.statement import STATEMENT_BYTES, read_rows
from shared.postgres.versions import below_xmin

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd
    from pg8000.native import Connection

    from shared.personal import PersonalData
    from shared.postgres.catalogue import Column, Description
    from shared.postgres.statement import Rows
    from shared.snapshot import Mark
    from shared.tables import Table

# In the first statement, when the length of rows is not known yet; fewer if the server has to make
# text of them to know it.
_FIRST_VALUES, _FIRST_RENDERED_VALUES = 60_000, 6_000
_STATEMENT_VALUES = 600_000  # in any later statement
BATCH_BYTES = 24_000_000  # a batch ends with the statement that reaches it

_OF_IDS = "{table} AS t WHERE t.{id} > {row_id} AND t.{id} = ANY ('{{[ids]}}'::bigint[])"
_RANGE = "{table} AS t WHERE t.{id} > {row_id} AND t.{id} <= {to_row_id}"


@dataclass(frozen=True)
class Batch:
    """Rows of a table that were read together; every read of rows returns one.

    Attributes:
        description: the table's.
        source: the rows as they are in the source, without the dropped columns, for checks only;
            else like `rows`.
        size: how many bytes the server's answers took in memory.
        more: whether the next read may find more.
        held_back: how many rows were read but left out of `rows`, because a transaction that is
            still open may yet fill a gap below them.
        waited: how many seconds the read waited for open writers.
        is_ahead: whether the rows were read before they were asked for.
        lacks_ids: whether the table has rows without an id, which no read returns.
    """

    description: Description
    source: pd.DataFrame
    size: int = 0
    more: bool = False
    held_back: int = 0
    waited: float = 0.0
    is_ahead: bool = False
    lacks_ids: bool = False

    @cached_property
    def rows(self) -> pd.DataFrame:
        """The rows as they land, ascending by id; if there are none, a frame with the columns.

        They have the types that `shared.postgres.columns` lists; hashes are text.
        """
        return landed_rows(self.source, self.description.personal)

    def only(self, which: Any) -> Batch:
        """Return it with some of its rows: an array of booleans says which."""
        return replace(self, source=self.source[which])

    @property
    def ids(self) -> pd.Series[int]:
        """The ids of the rows, ascending."""
        return self.source[self.description.table.id_column]

    @property
    def last_id(self) -> int:
        """The id of the last row; there must be one."""
        return int(self.ids.iloc[-1])


def read_settled_rows(
    table: Table,
    row_id: int,
    to_row_id: int,
    connection: Connection,
    limit: int | None = None,
    *,
    personal: PersonalData = NONE,
) -> Batch:
    """Return the rows above `row_id` up to `to_row_id`; the caller knows the range to be settled.

    Raises:
        SourceError: no such table or id column, no permission, inside a transaction, on a standby,
            a personal column is missing.
        SourceUnavailableError: the database can't be reached, or the connection broke.
    """
    with database_errors(f"Reading {table.name!r}"):
        description = read_description(table, connection, personal)
        bounds = {"to_row_id": int(to_row_id)}
        return read_batch(description, connection, _RANGE, int(row_id), limit, bounds)


def read_settled_parts(
    table: Table, row_id: int, to_row_id: int, connection: Connection, *, personal: PersonalData
) -> Iterator[Batch]:
    """Yield the rows that `read_settled_rows` returns, in parts: those of one statement each.

    A part takes little memory, however many rows there are, and however long they are. There is at
    least one, which may be empty. All are read as the table was declared when the first one was.

    Raises:
        SourceError, SourceUnavailableError: see `read_settled_rows`.
    """
    with database_errors(f"Reading {table.name!r}"):
        description = read_description(table, connection, personal)
        bounds = {"to_row_id": int(to_row_id)}
        for found in _statements(description, connection, _RANGE, int(row_id), None, bounds):
            yield Batch(description, found.frame, found.size, found.more)


def read_old_rows(
    table: Table,
    row_id: int,
    to_row_id: int,
    mark: Mark,
    connection: Connection,
    limit: int,
    personal: PersonalData,
) -> Batch:
    """Return rows above `row_id` up to `to_row_id`, of those that are older than a mark.

    Raises:
        SourceError, SourceUnavailableError: see `read_settled_rows`.
    """
    with database_errors(f"Reading {table.name!r}"):
        description = read_description(table, connection, personal)
        bounds, old = {"to_row_id": int(to_row_id)}, f"{_RANGE} AND {below_xmin(mark)}"
        return read_batch(description, connection, old, int(row_id), limit, bounds)


def read_rows_of(
    table: Table, ids: Sequence[int], row_id: int, connection: Connection, personal: PersonalData
) -> Batch:
    """Return the rows with these ids, above another one: some of them, if they are large.

    Raises:
        SourceError, SourceUnavailableError: see `read_settled_rows`.
    """
    with database_errors(f"Reading {table.name!r}"):
        description = read_description(table, connection, personal)
        some = ",".join(map(str, ids))
        return read_batch(description, connection, _OF_IDS.replace("[ids]", some), row_id, len(ids))


def read_batch(
    description: Description,
    connection: Connection,
    rows_sql: str,
    row_id: int,
    limit: int | None = None,
    bounds: Mapping[str, int] = MappingProxyType({}),
    *,
    after: Batch | None = None,
) -> Batch:
    """Read the rows above an id: about `limit`, fewer if they are large; all if it is None.

    Args:
        description: the table's.
        connection: a session in autocommit, on a primary.
        rows_sql: what to read from, see `read_rows`; it contains {row_id}.
        row_id: the id to begin above.
        limit: how many rows to read at most, besides more with the id of the last one.
        bounds: values of what else `rows_sql` contains.
        after: the batch before this one, if it was read: its rows say how long these may be.

    Raises:
        SourceError: inside a transaction, on a standby.
        SourceUnavailableError: the table was declared anew since it was described.
    """
    frames: list[pd.DataFrame] = []
    size, more = 0, True
    for found in _statements(description, connection, rows_sql, row_id, limit, bounds, after):
        frames.append(found.frame)
        size, more = size + found.size, found.more
        if limit is not None and size >= BATCH_BYTES:
            break
    return Batch(description, together(frames), size, more)


def _statements(
    description: Description,
    connection: Connection,
    rows_sql: str,
    row_id: int,
    limit: int | None,
    bounds: Mapping[str, int],
    after: Batch | None = None,
) -> Iterator[Rows]:
    """Yield what each statement reads, at least one, until the limit is reached; see `read_batch`.

    What the rows so far took says how many the next statement asks for.
    """
    seen, seen_size = (len(after.source), after.size) if after else (0, 0)
    count, size, more, careful = 0, 0, True, False
    while more:
        rows = _statement_rows(description.read_columns, seen + count, seen_size + size)
        rows = rows if limit is None else min(rows, limit - count)
        found = read_rows(
            description,
            connection,
            rows_sql,
            rows,
            careful=careful,
            **bounds,
            row_id=row_id,
        )
        yield found
        count, size, careful = count + len(found.frame), size + found.size, found.careful
        more = found.more and (limit is None or count < limit)
        if more:
            row_id = int(found.frame[description.table.id_column].iloc[-1])


def _statement_rows(columns: Sequence[Column], count: int, size: int) -> int:
    """Return how many rows to ask for, after `count` rows of `size` bytes in all."""
    if not count:
        first = _FIRST_RENDERED_VALUES if has_rendered(columns) else _FIRST_VALUES
        return max(1, first // len(columns))
    as_long = STATEMENT_BYTES // 2 * count // max(1, size)
    return max(1, min(2 * count, _STATEMENT_VALUES // len(columns), as_long))
