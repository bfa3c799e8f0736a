"""A table as PostgreSQL's system catalogs describe it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from pg8000.native import identifier, literal

from shared.errors import SourceError
from shared.personal import NONE, PersonalData
from shared.postgres.proof import prepare

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pg8000.native import Connection

    from shared.tables import Table

# One row per column: its name, its declared type, the type and category of its values (for a
# domain, those of the base type), whether it may be NULL, the sequences that its default draws from
# and their options, and whether logical replication fills the table or a child of it. The sequences
# are the one that the column owns (serial, identity) and the one that its default names; usually
# they are the same.
_COLUMNS = """
SELECT a.attname, format_type(a.atttypid, a.atttypmod), base.typname, base.typcategory,
       NOT a.attnotnull, drawn.*, (
    WITH RECURSIVE family AS (
        SELECT to_regclass({name})::oid AS oid
        UNION SELECT inhrelid FROM family JOIN pg_inherits ON inhparent = family.oid
    )
    SELECT count(*) > 0 FROM pg_subscription_rel JOIN family ON srrelid = oid
)
FROM pg_attribute AS a
CROSS JOIN LATERAL (
    WITH RECURSIVE types AS (
        SELECT typname, typcategory, typtype, typbasetype FROM pg_type WHERE oid = a.atttypid
        UNION ALL
        SELECT inside.typname, inside.typcategory, inside.typtype, inside.typbasetype
        FROM types JOIN pg_type AS inside
            ON types.typtype = 'd' AND inside.oid = types.typbasetype
    )
    SELECT typname, typcategory FROM types WHERE typtype <> 'd'
) AS base
CROSS JOIN LATERAL (
    SELECT array_agg(seqrelid::bigint), min(seqincrement), max(seqcache), bool_or(seqcycle)
    FROM pg_sequence WHERE seqrelid IN (
        SELECT d.objid FROM pg_depend AS d WHERE d.deptype IN ('a', 'i')
            AND d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
            AND d.refobjid = a.attrelid AND d.refobjsubid = a.attnum
        UNION ALL
        SELECT d.refobjid FROM pg_depend AS d JOIN pg_attrdef AS f
            ON f.oid = d.objid AND f.adrelid = a.attrelid AND f.adnum = a.attnum
        WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
    )
) AS drawn
WHERE a.attrelid = to_regclass({name}) AND a.attnum > 0 AND NOT a.attisdropped
ORDER BY a.attnum
"""

_LONGEST_NAME = 63  # NAMEDATALEN - 1, in bytes; the server cuts off what is longer


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the system catalogs describe it.

    Attributes:
        name: its name.
        type_name: its type as `format_type` spells it, e.g. `numeric(10,2)`.
        base: the `typname` of its type, for a domain of the innermost one, e.g. `int4`.
        category: the `typcategory` of its type: `A` is an array, `S` a string.
        nullable: whether it may be NULL.
    """

    name: str
    type_name: str
    base: str
    category: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class Description:
    """A table as the system catalogs describe it.

    Attributes:
        table: the table.
        columns: its columns, in order.
        sequences: the oids of the sequences that its ids are drawn from.
        step: by how much each id that is drawn exceeds the one before, 1 if that is not known.
        broken_assumption: why its ids may be drawn out of order, or None.
        personal: which of its columns must not land as they are.
    """

    table: Table
    columns: tuple[Column, ...]
    sequences: tuple[int, ...] = ()
    step: int = 1
    broken_assumption: str | None = None
    personal: PersonalData = NONE

    @property
    def read_columns(self) -> Sequence[Column]:
        """The columns that are read: all but the dropped ones."""
        return [each for each in self.columns if each.name not in self.personal.dropped]

    @property
    def id_is_nullable(self) -> bool:
        """Whether there may be rows without an id."""
        return any(each.nullable for each in self.columns if each.name == self.table.id_column)


def read_description(
    table: Table, connection: Connection, personal: PersonalData = NONE
) -> Description:
    """Return the description of a table; also prepare the session.

    Raises:
        SourceError: the table does not exist or is not visible, has no integer id column or not all
            of the `personal` columns, or its name is too long for an id column.
    """
    if len(table.id_column.encode()) > _LONGEST_NAME:
        raise SourceError(
            f"The name of {table.name!r} is too long: its id column would be "
            f"{table.id_column!r}, of which PostgreSQL keeps {_LONGEST_NAME} bytes. Rename the "
            "table, or take it out of the tables to ingest."
        )
    prepare(connection)
    found = connection.run(_COLUMNS.format(name=literal(identifier(table.name))))
    columns = {name: Column(name, *rest) for name, *rest in (row[:5] for row in found)}
    if not columns:
        raise SourceError(
            f"There is no table {table.name!r}, or it is not on the role's search_path, or the "
            "role lacks USAGE on its schema. Restore it, or take it out of the tables to ingest."
        )
    id_column = columns.get(table.id_column)
    if id_column is None or id_column.base not in {"int2", "int4", "int8"}:
        raise SourceError(
            f"Table {table.name!r} has no integer column {table.id_column!r}, which orders its "
            "rows. Restore the column, or take the table out of the tables to ingest."
        )
    _refuse_renamed(table, columns.keys(), personal)
    [(sequences, *drawn)] = [row[5:] for row in found if row[0] == table.id_column]
    return Description(
        table,
        tuple(columns.values()),
        tuple(sequences or ()),
        max(1, drawn[0] or 1),
        _broken_assumption(*drawn),
        personal,
    )


def _refuse_renamed(table: Table, names: Collection[str], personal: PersonalData) -> None:
    """Refuse a table that lacks a personal column: under a new name it would land as it is."""
    if missing := sorted(personal.columns - set(names)):
        raise SourceError(
            f"Table {table.name!r} has no column {', '.join(map(repr, missing))}, of which "
            f"{table.contract} says by x-land how it lands. If it was renamed, it would land as it "
            "is; so nothing is read. Give the column its new name in the contract, or take it out."
        )


def _broken_assumption(
    increment: int | None, cache: int | None, cycle: bool | None, is_subscribed: bool
) -> str | None:
    faults = {
        "logical replication fills it: its rows have another server's ids": is_subscribed,
        "its ids are not drawn from a sequence": increment is None,
        f"its sequence has CACHE {cache}: sessions draw ids in blocks": cache not in {None, 1},
        f"its sequence descends by {-(increment or 0)}": (increment or 0) < 0,
        "its sequence cycles": bool(cycle),
    }
    return "; ".join(fault for fault, present in faults.items() if present) or None
