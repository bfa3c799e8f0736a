"""What the catalogue says of each table for the role that asks."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pg8000.native import literal

from shared.contracts.contract import land_forms, load
from shared.tables import TABLES, Table

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pg8000.native import Connection

# Of each table: its kind, NULL if the role's search_path does not lead to it; whether the role may
# read it, or at least xmin and each column that is not dropped; whether policies hide rows; whether
# its id is unique. And in which other schemas there is one of its name: with USAGE, and without. A
# schema without USAGE is not on the path.
_FACTS = """
WITH named AS (
    SELECT relname, nspname, has_schema_privilege(n.oid, 'USAGE') AS is_open
    FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
    WHERE relkind IN ('r', 'p', 'v', 'm', 'f') AND NOT starts_with(nspname, 'pg_')
)
SELECT name, relkind::text,
    relkind IS NOT NULL AND (has_table_privilege(found.oid, 'SELECT') OR NOT EXISTS (
        SELECT FROM pg_attribute WHERE attrelid = found.oid AND (attnum > 0 OR attname = 'xmin')
            AND NOT attisdropped AND NOT has_column_privilege(attrelid, attnum, 'SELECT')
            AND name || '.' || attname <> ALL ({dropped}::text[])
    )),
    coalesce(row_security_active(found.oid), false),
    EXISTS (
        SELECT FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
        WHERE indrelid = found.oid AND attname = name || '_id'
            AND indisunique AND indisvalid AND indpred IS NULL AND indnkeyatts = 1
    ),
    ARRAY(SELECT nspname::text FROM named WHERE named.relname = name AND is_open ORDER BY 1),
    ARRAY(SELECT nspname::text FROM named WHERE named.relname = name AND NOT is_open ORDER BY 1)
FROM (
    SELECT number, name, to_regclass(quote_ident(name))::oid AS oid
    FROM unnest({names}::text[]) WITH ORDINALITY AS t (name, number)
) AS found LEFT JOIN pg_class ON pg_class.oid = found.oid
ORDER BY number
"""


class Facts(NamedTuple):
    """What the catalogue says of a table.

    Attributes:
        name: its name.
        kind: its `relkind`; None if the role's search_path does not lead to it.
        is_readable: whether the role may read it, but for columns that are dropped.
        hides_rows: whether policies of row-level security hold for the role.
        has_unique_id: whether a unique index is on its id column, and on no other.
        schemas: those in which there is a table of this name.
        closed_schemas: those of which the role has no USAGE.
    """

    name: str
    kind: str | None
    is_readable: bool = True
    hides_rows: bool = False
    has_unique_id: bool = True
    schemas: Sequence[str] = ()
    closed_schemas: Sequence[str] = ()

    @property
    def is_there(self) -> bool:
        """Whether the role's search_path leads to it."""
        return self.kind is not None

    @property
    def is_table(self) -> bool:
        """Whether it is a table, which may be partitioned; not a view or a foreign table."""
        return self.kind in {"r", "p"}


def read_facts(connection: Connection) -> list[Facts]:
    """Return what the catalogue says of each table, in their order.

    Raises:
        ConfigError: a contract is not valid.
        DatabaseError, InterfaceError, OSError: see `database_errors`.
    """
    dropped = [
        f"{name}.{column}"
        for name in TABLES
        for column, form in land_forms(load(Table(name)) or {}).items()
        if form == "drop"
    ]
    names = {"names": literal(list(TABLES)), "dropped": literal(dropped)}
    rows = connection.run(_FACTS.format(**names))
    return [Facts(*row) for row in rows]
