"""Which rows have a new version: the PostgreSQL side of the change stream.

Every row version carries in `xmin` the id of the transaction that wrote it. A mark's own `xmin` is
the lowest transaction id that was still active when the mark was taken: versions that lower ones
committed are visible to every later read. So only rows whose `xmin` is not below the last mark's
can have changed since that mark, no matter who changed them or how: by an UPDATE that leaves
last_updated alone or changes nothing, or by an INSERT with an explicit id. A lock (SELECT FOR
UPDATE) makes no version. A savepoint's id is above its transaction's, so it is below the mark's
`xmin` only if the transaction's is, too.

The ids in rows have 32 bits and wrap around. `age(xid)` counts back from the newest id, and so
compares them as PostgreSQL does, on a circle. `xmin` has no index: a scan reads the whole table, in
stretches.

https://www.postgresql.org/docs/current/routine-vacuuming.html#VACUUM-FOR-WRAPAROUND
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pg8000.native import identifier

from shared.postgres.proof import PROOF, prove
from shared.postgres.refusals import database_errors

if TYPE_CHECKING:
    from pg8000.native import Connection

    from shared.snapshot import Mark
    from shared.tables import Table

# The last id of the next {limit} rows, and whether any of them has a new version.
_STRETCH = """
SELECT coalesce(max({id}), {up_to}), coalesce(bool_or(is_new), false),
       {proof}
FROM (
    SELECT t.{id}, {condition} AS is_new FROM {table} AS t
    WHERE t.{id} > {above} AND t.{id} <= {up_to} ORDER BY t.{id}
    FETCH FIRST {limit} ROWS WITH TIES
) AS stretch
"""
# The same for a range of at most {limit} ids, which needs no ORDER BY.
_SHORT_STRETCH = """
SELECT {up_to}, EXISTS (
    SELECT FROM {table} AS t WHERE t.{id} > {above} AND t.{id} <= {up_to} AND {condition}
), {proof}
"""
_CHANGED = "{{table}} AS t WHERE t.{{id}} > {{row_id}} AND t.{{id}} <= {{last}} AND {condition}"
_REPEATED = "SELECT count(*) FROM {changed} AND {visible}"


def read_stretch(
    table: Table, connection: Connection, above: int, up_to: int, since: Mark | None, limit: int
) -> tuple[int, bool]:
    """Tell whether any of the next rows above an id has a new version.

    Args:
        table: the table.
        connection: a session in autocommit, on a primary.
        above: the id that the stretch begins above.
        up_to: the id that it ends at, at the latest.
        since: the mark that tells old versions from new ones; without it every version is new.
        limit: how many rows to look at, at most.

    Returns:
        The stretch's last id, and whether there is such a row.

    Raises:
        SourceError: no permission, inside a transaction, on a standby.
        SourceUnavailableError: the database can't be reached, or the connection broke.
    """
    names = {"id": identifier(table.id_column), "table": identifier(table.name)}
    bounds = {"above": int(above), "up_to": int(up_to), "limit": int(limit)}
    stretch = _SHORT_STRETCH if up_to - above <= limit else _STRETCH
    sql = stretch.format(**names, **bounds, proof=PROOF, condition=not_below_xmin(since))
    with database_errors(f"Reading the changes of {table.name!r}"):
        [[last, has_changed, proof]] = connection.run(sql)
        prove(table.name, proof, connection)
    return last, has_changed


def changed_rows(since: Mark | None) -> str:
    """Return the `rows_sql` by which `reader.read_batch` reads changed rows up to {last}."""
    return _CHANGED.format(condition=not_below_xmin(since))


def read_repeated(table: Table, connection: Connection, above: int, last: int, since: Mark) -> int:
    """Count the changed rows of a range that were visible at a mark: they are delivered again.

    There are some only if a transaction was open at that mark. Rows written in a savepoint that was
    open at the mark are counted, too: a snapshot does not list savepoints.

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
    """Return the SQL condition for versions not below a mark's xmin; `true` if there is no mark.

    A negative age is left out. It is that of a row that was frozen more than half a circle ago, or
    of a version that was written while the statement began, which comes with the next scan.
    """
    return "true" if since is None else f"age(t.xmin) BETWEEN 0 AND age({_xid(since.xmin)})"


def below_xmin(mark: Mark) -> str:
    """Return the SQL condition for versions below a mark's xmin.

    It is not true of all that `not_below_xmin` leaves out, see there: of those that a mark can't
    tell, neither is.
    """
    return f"age(t.xmin) > age({_xid(mark.xmin)})"


def _visible_at(mark: Mark) -> str:
    """Return the SQL condition for versions visible at a mark, or written in an open savepoint."""
    in_progress = ", ".join(_xid(xid) for xid in mark.xip)
    finished = f" AND t.xmin <> ALL (ARRAY[{in_progress}])" if in_progress else ""
    return f"age(t.xmin) > age({_xid(mark.xmax)}){finished}"


def _xid(xid: int) -> str:
    return f"'{xid % 2**32}'::xid"
