"""Which rows have a new version: the PostgreSQL side of the change stream.

Every row version carries the id of the transaction that wrote it, `xmin`. A mark knows the lowest
id that was still active when it was taken, its own `xmin`: whatever was written below that is
visible to every later read. So the rows whose `xmin` is not below the last mark's are all that can
have changed since that mark, whoever changed them and however: by an UPDATE that leaves
last_updated alone, by one that changes nothing, by an INSERT with an explicit id. A lock (SELECT
FOR UPDATE) makes no version. The id of a savepoint is above its transaction's, so it is below the
mark's only if that is, too.

`age(xid)` counts backwards from the newest id and so compares ids of 32 bits as PostgreSQL means
them: on a circle. Nothing indexes `xmin`: a scan reads the whole table, in stretches.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pg8000.native import identifier

from shared.postgres.session import database_errors, refuse_inexact_reads

if TYPE_CHECKING:
    from pg8000.native import Connection

    from shared.snapshot import Mark
    from shared.tables import Table

# The last id of the next so many rows, and whether any of them has a new version.
_STRETCH = """
SELECT coalesce(max({id}), {up_to}), coalesce(bool_or(is_new), false),
       now() <> statement_timestamp(), pg_is_in_recovery()
FROM (
    SELECT t.{id}, {condition} AS is_new FROM {table} AS t
    WHERE t.{id} > {above} AND t.{id} <= {up_to} ORDER BY t.{id} LIMIT {limit}
) AS stretch
"""
# The same where the range has no more ids than rows were asked for: no order is needed.
_SHORT_STRETCH = """
SELECT {up_to}, EXISTS (
    SELECT FROM {table} AS t WHERE t.{id} > {above} AND t.{id} <= {up_to} AND {condition}
), now() <> statement_timestamp(), pg_is_in_recovery()
"""
_CHANGED = "{{table}} AS t WHERE t.{{id}} > {{row_id}} AND t.{{id}} <= {{last}} AND {condition}"
_REPEATED = "SELECT count(*) FROM {changed} AND {visible}"


def read_stretch(
    table: Table, connection: Connection, above: int, up_to: int, since: Mark | None, limit: int
) -> tuple[int, bool]:
    """Look through the next rows above an id: does any of them have a new version?

    Args:
        table: which.
        connection: a session in autocommit, on a primary.
        above: the id that the stretch begins above.
        up_to: where it ends at the latest.
        since: the mark that tells old versions from new ones; without it every row is new.
        limit: how many rows to look at.

    Returns:
        The stretch's last id, and whether there is such a row.

    Raises:
        SourceError: no permission, inside a transaction, on a standby.
        SourceUnavailableError: the database could not be reached, or broke off.
    """
    names = {"id": identifier(table.id_column), "table": identifier(table.name)}
    bounds = {"above": int(above), "up_to": int(up_to), "limit": int(limit)}
    stretch = _SHORT_STRETCH if up_to - above <= limit else _STRETCH
    sql = stretch.format(**names, **bounds, condition=not_below_xmin(since))
    with database_errors(f"Reading the changes of {table.name!r}"):
        [[last, has_changed, in_transaction, on_standby]] = connection.run(sql)
        refuse_inexact_reads(table.name, in_transaction=in_transaction, on_standby=on_standby)
    return last, has_changed


def changed_rows(since: Mark | None) -> str:
    """Return what `reader.read_batch` reads changed rows from, up to a bound {last}."""
    return _CHANGED.format(condition=not_below_xmin(since))


def read_repeated(table: Table, connection: Connection, above: int, last: int, since: Mark) -> int:
    """Count the changed rows of a range that a mark has seen: they are delivered again.

    That is because a transaction was open at that mark; rows a savepoint wrote are not told apart.

    Raises:
        SourceError, SourceUnavailableError: see `read_stretch`.
    """
    if since.xmin == since.xmax:
        return 0
    names = {"id": identifier(table.id_column), "table": identifier(table.name)}
    sql = _REPEATED.format(changed=changed_rows(since), visible=_visible_at(since))
    with database_errors(f"Reading the changes of {table.name!r}"):
        [[repeated]] = connection.run(sql.format(**names, row_id=int(above), last=int(last)))
    return int(repeated)


def not_below_xmin(since: Mark | None) -> str:
    """Return the SQL condition of a version that a mark does not know to be old.

    A negative age is more than half the circle: that of a row that was frozen very long ago.
    """
    return "true" if since is None else f"age(t.xmin) BETWEEN 0 AND age({_xid(since.xmin)})"


def _visible_at(mark: Mark) -> str:
    """Return the SQL condition of a version that was visible at a mark, or is a savepoint's."""
    in_progress = ", ".join(_xid(xid) for xid in mark.xip)
    finished = f" AND t.xmin <> ALL (ARRAY[{in_progress}])" if in_progress else ""
    return f"age(t.xmin) > age({_xid(mark.xmax)}){finished}"


def _xid(xid: int) -> str:
    return f"'{xid % 2**32}'::xid"
