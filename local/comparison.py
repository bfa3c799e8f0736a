"""Compares what landed with what Totesys holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pg8000.native import identifier

if TYPE_CHECKING:
    from pg8000.native import Connection

    from local.landed import Landed

_TABLES = """
SELECT table_name::text FROM information_schema.tables
WHERE table_schema = 'public' AND table_name <> '_prisma_migrations'
ORDER BY table_name
"""


@dataclass(frozen=True)
class Comparison:
    """A table's ids, ascending in Totesys, in the order of landing in the bucket.

    Rows that have a tombstone in the change stream have not landed, whatever came before it.
    """

    table: str
    source_ids: list[int]
    landed_ids: list[int]

    @property
    def equal(self) -> bool:
        """True if every row landed, each once, in the order of the ids."""
        return self.source_ids == self.landed_ids


def compare(connection: Connection, landed: Landed) -> list[Comparison]:
    """Compare every table of Totesys with what landed of it."""
    tables = [table for (table,) in connection.run(_TABLES)]
    return [_compare(table, connection, landed) for table in tables]


def _compare(table: str, connection: Connection, landed: Landed) -> Comparison:
    column = f"{table}_id"
    quoted = identifier(column)
    rows = connection.run(f"SELECT {quoted} FROM {identifier(table)} ORDER BY {quoted}")
    source_ids = [row_id for (row_id,) in rows]
    gone = landed.gone(table, column)
    ids = [line[column] for line in landed.lines(table)]
    return Comparison(table, source_ids, [row_id for row_id in ids if row_id not in gone])
