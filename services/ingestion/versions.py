"""The PostgreSQL side of the change stream: which rows have a version that is new.

Every version of a row carries the id of the transaction that wrote it, `xmin`. A mark taken at
moment s knows the lowest id still open then, its base: whatever was written below it is visible to
every read after s. So the rows whose `xmin` is not below the base of the last mark are all that can
have changed since that mark, whoever changed them and however: an UPDATE that leaves last_updated
alone, one that changes nothing, a row put in with an id of its own. A lock (SELECT FOR UPDATE) is
no version. A savepoint's id is above its transaction's, so it is below the base only if that is.

`age(xid)` counts backwards from the newest id and so compares ids of 32 bits as they are meant:
on a circle. Nothing indexes `xmin`: a look at a table reads all of it, in stretches.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pg8000.native import identifier

from services.ingestion.batches import read_on, refuse_inexact_reads
from services.ingestion.tables import id_column
from shared.database import database_errors

if TYPE_CHECKING:
    import pandas as pd
    from pg8000.native import Connection

    from services.ingestion.batches import Description
    from services.ingestion.marks import Mark

_STRETCH = """
SELECT coalesce(max({id}), {up_to}), coalesce(bool_or(is_new), false),
       now() <> statement_timestamp(), pg_is_in_recovery()
FROM (
    SELECT t.{id}, {condition} AS is_new FROM {table} AS t
    WHERE t.{id} > {above} AND t.{id} <= {up_to} ORDER BY t.{id} LIMIT {limit}
) AS stretch
"""
# Of a stretch of so few ids that no more rows than asked for can be in it: without their order.
_SHORT_STRETCH = """
SELECT {up_to}, EXISTS (
    SELECT FROM {table} AS t WHERE t.{id} > {above} AND t.{id} <= {up_to} AND {condition}
), now() <> statement_timestamp(), pg_is_in_recovery()
"""
_CHANGED = "{table} AS t WHERE t.{id} > {row_id} AND t.{id} <= {last} AND "


@dataclass(frozen=True, slots=True)
class Stretch:
    """What of a stretch of ids has changed.

    Attributes:
        rows: the changed rows, by id.
        last: the last id that was looked at.
        size: how many characters the server sent.
        repeated: how many of the rows were visible at the earlier mark, and come again because of a
            transaction that was open then.
    """

    rows: pd.DataFrame
    last: int
    size: int
    repeated: int


def look_through(
    table: str, connection: Connection, above: int, up_to: int, since: Mark | None, limit: int
) -> tuple[int, bool]:
    """Look through the next rows above an id: does any of them have a new version?

    Args:
        table: its name.
        connection: a session in autocommit, on a primary.
        above: where the stretch begins.
        up_to: where it ends at the latest.
        since: what is old; every row is new without it.
        limit: how many rows to look at.

    Returns:
        The stretch's last id, and whether there is such a row.

    Raises:
        SourceError: no permission, inside a transaction, on a standby.
        SourceUnavailableError: the database could not be reached, or broke off.
    """
    names = {"id": identifier(id_column(table)), "table": identifier(table)}
    bounds = {"above": int(above), "up_to": int(up_to), "limit": int(limit)}
    stretch = _SHORT_STRETCH if up_to - above <= limit else _STRETCH
    sql = stretch.format(**names, **bounds, condition=not_below_base(since))
    with database_errors(f"Reading the changes of {table!r}"):
        [[last, has_changed, in_transaction, on_standby]] = connection.run(sql)
        refuse_inexact_reads(table, in_transaction=in_transaction, on_standby=on_standby)
    return last, has_changed


def get_changed_rows(
    description: Description,
    connection: Connection,
    above: int,
    last: int,
    since: Mark | None,
    limit: int,
) -> Stretch:
    """Return those rows above an id up to another that have a new version.

    Args:
        description: of the table.
        connection: a session in autocommit, on a primary.
        above: where the stretch begins.
        last: where it ends.
        since: as of `look_through`.
        limit: how many rows to return at most; fewer if they are long.

    Raises:
        SourceError, SourceUnavailableError: as `look_through`.
    """
    names = {"id": identifier(description.id_column), "table": identifier(description.table)}
    changed_rows = _CHANGED + not_below_base(since)
    with database_errors(f"Reading the changes of {description.table!r}"):
        found = read_on(description, connection, changed_rows, above, limit, last=last)
        rows = found.rows
        rows.attrs = {"description": description}
        if found.more:
            last = int(rows[description.id_column].iloc[-1])
        repeated = 0
        if since and since.base < since.next_xid and len(rows):
            seen = f"{changed_rows} AND {_visible_at(since)}"
            [[repeated]] = connection.run(
                f"SELECT count(*) FROM {seen}".format(**names, row_id=above, last=last)
            )
    return Stretch(rows, last, found.size, repeated)


def not_below_base(since: Mark | None) -> str:
    """Return what is true of a version that a mark does not know to be old.

    An age below 0 is one of more than half the circle: of a row that was frozen very long ago.
    """
    return "true" if since is None else f"age(t.xmin) BETWEEN 0 AND age({_xid(since.base)})"


def _visible_at(mark: Mark) -> str:
    """Return what is true of a version that was visible at a mark, or is a savepoint's."""
    still_open = ", ".join(_xid(xid) for xid in mark.open_xids)
    finished = f" AND t.xmin <> ALL (ARRAY[{still_open}])" if still_open else ""
    return f"age(t.xmin) > age({_xid(mark.next_xid)}){finished}"


def _xid(xid: int) -> str:
    return f"'{xid % 2**32}'::xid"
