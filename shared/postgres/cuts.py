"""Where a batch of a table's rows is to end, so that it has not too many rows, nor too long ones.

Only ids and lengths are read. As one statement reads no further than the batch goes, it takes as
long whatever the table holds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pg8000.native import identifier

from shared.postgres.columns import lengths
from shared.postgres.proof import PROOF, prove
from shared.postgres.refusals import database_errors
from shared.postgres.statement import declared_anew_errors

if TYPE_CHECKING:
    from pg8000.native import Connection

    from shared.postgres.catalogue import Description

# The id of the first row that reaches a limit, if one does. The window has no order, so that it
# takes the rows in the order they have, and LIMIT 1 measures none behind that row. They are
# measured outside of the ordered subquery, or a server that sorts would measure all.
_CUT = """
SELECT {proof}, (
    SELECT id FROM (
        SELECT t.{id} AS id, row_number() OVER so_far AS number, sum({bytes}) OVER so_far AS bytes
        FROM (
            SELECT {read} FROM {table} AS t
            WHERE t.{id} > {above} AND t.{id} <= {up_to} ORDER BY t.{id} LIMIT {rows}
        ) AS t WINDOW so_far AS (ROWS UNBOUNDED PRECEDING)
    ) AS sums WHERE number = {rows} OR bytes >= {size} LIMIT 1
)
"""
# About what a short value takes in the server's answer. Values that may be long are measured.
_SHORT_BYTES = 16


def read_cut(
    description: Description, connection: Connection, above: int, up_to: int, rows: int, size: int
) -> int:
    """Return the id at which the batch above an id is to end.

    It ends with the row that reaches one of the limits. Rows that share its id are in the batch,
    too: nobody can go on between them.

    Args:
        description: the table's.
        connection: a session in autocommit, on a primary; prepared, as `read_description` does.
        above: the id that the batch begins above.
        up_to: where it ends at the latest; returned if no limit is reached before.
        rows: how many rows it has at most.
        size: how many bytes of the server's answers it has at most, but for its last row.

    Raises:
        SourceError: no permission, inside a transaction, on a standby.
        SourceUnavailableError: the database can't be reached, the connection broke, or the table
            was declared anew since it was described.
    """
    table, columns = description.table, description.read_columns
    long = [each for each in columns if lengths([each])]
    names = [table.id_column, *(each.name for each in long)]
    short = f"{_SHORT_BYTES * len(columns)}::bigint"
    sql = _CUT.format(
        proof=PROOF,
        id=identifier(table.id_column),
        table=identifier(table.name),
        read=", ".join(f"t.{identifier(name)}" for name in names),
        bytes=" + ".join([short, *(f"coalesce({each}, 0)" for each in lengths(long))]),
        above=int(above),
        up_to=int(up_to),
        rows=int(rows),
        size=int(size),
    )
    with database_errors(f"Measuring the rows of {table.name!r}"):
        with declared_anew_errors(description, connection):
            [[proof, cut]] = connection.run(sql)
        prove(table.name, proof, connection)
    return up_to if cut is None else int(cut)
