"""Which ids of a range have no row: they were never used, or their rows were deleted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pg8000.native import identifier

from shared.postgres.proof import PROOF, prepare, prove
from shared.postgres.refusals import database_errors

if TYPE_CHECKING:
    from pg8000.native import Connection

    from shared.tables import Table

# The first gaps between the ids of a range, which ends with an id above all of them.
_GAPS = """
SELECT {proof}, coalesce(sum(last - first + 1), 0)::text,
    string_agg(concat(first, ' ', last), ',' ORDER BY first)
FROM (
    SELECT * FROM (
        SELECT lag(id, 1, {above}::numeric) OVER (ORDER BY id) + 1 AS first, id - 1 AS last
        FROM (
            SELECT t.{id}::numeric AS id FROM {table} AS t
            WHERE t.{id} > {above} AND t.{id} <= {up_to}
            UNION ALL SELECT {up_to}::numeric + 1
        ) AS ids
    ) AS pairs WHERE first <= last ORDER BY first FETCH FIRST {limit} ROWS ONLY
) AS gaps
"""


def read_absent(
    table: Table, above: int, up_to: int, connection: Connection, most: int
) -> list[int] | None:
    """Return the ids above one, up to another, that have no row, ascending.

    Args:
        table: the table.
        above: the id that the range begins above.
        up_to: the id that it ends at.
        connection: a session in autocommit, on a primary.
        most: if there are more than these, None is returned.

    Raises:
        SourceError: no permission, inside a transaction, on a standby.
        SourceUnavailableError: the database can't be reached, or the connection broke.
    """
    names = {"id": identifier(table.id_column), "table": identifier(table.name)}
    sql = _GAPS.format(
        **names, above=int(above), up_to=int(up_to), limit=int(most) + 1, proof=PROOF
    )
    with database_errors(f"Reading the ids of {table.name!r}"):
        prepare(connection)
        [[proof, count, gaps]] = connection.run(sql)
        prove(table.name, proof, connection)
    if int(count) > most:
        return None
    pairs = [map(int, gap.split()) for gap in (gaps or "").split(",") if gap]
    return [row_id for first, last in pairs for row_id in range(first, last + 1)]
