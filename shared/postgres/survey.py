"""The state of all tables in PostgreSQL, read by one statement; a run without news ends after it.

Its cost does not depend on how large the tables are: the highest ids come from the ends of indexes,
everything else from the system catalogs and the counters of rows written.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pg8000.native import identifier, literal

from shared.declaration import lines_depend_on
from shared.postgres.proof import PROOF, prepare, prove
from shared.postgres.refusals import database_errors
from shared.snapshot import Mark

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from pg8000.native import Connection

    from shared.tables import Table

    type Declared = tuple[tuple[str, str, bool], ...]  # name, type and nullability of each column

# The snapshot, the clock, and for each table: its history, the counters of rows written, its
# columns, what else the lines of its rows depend on, and whether its rows have versions, as those
# of tables on the heap.
# The history changes with recovery, after a crash or from a backup, because transaction ids that
# were seen may then be assigned again. Recovery resets the statistics of the archiver; otherwise
# only pg_stat_reset_shared does.
# The counters come with the start of the server, because they continue where a server stopped,
# which may be a copy; and with the table's file, because ALTER TABLE may rewrite every row into
# another file, uncounted.
# The highest ids are read outside the subquery: tables may be called like the names inside it.
# Most of what it takes is to fill the caches of a fresh session. So it calls a function instead of
# reading the wide view above it, and reads columns by a subquery for each table, not by a join.
_SURVEY = """
SELECT seen.*, {proof}{highest} FROM (WITH RECURSIVE asked AS (
    SELECT number, to_regclass(name)::oid AS oid
    FROM unnest({names}::text[]) WITH ORDINALITY AS t (name, number)
), family AS (
    SELECT number, oid FROM asked
    UNION SELECT number, inhrelid FROM family JOIN pg_inherits ON inhparent = family.oid
), consisting AS (
    SELECT number, atttypid AS type FROM asked
    JOIN pg_attribute ON attrelid = asked.oid AND atttypid >= {first_own}
    UNION
    SELECT number, part FROM consisting CROSS JOIN LATERAL (
        SELECT unnest(ARRAY[typbasetype, typelem]) FROM pg_type WHERE oid = type
        UNION ALL SELECT rngsubtype FROM pg_range WHERE rngtypid = type
        UNION ALL SELECT atttypid FROM pg_type JOIN pg_attribute ON attrelid = typrelid
        WHERE pg_type.oid = type AND typtype = 'c' OFFSET 0
    ) AS parts (part) WHERE part >= {first_own}
)
SELECT pg_current_snapshot()::text, floor(extract(epoch FROM statement_timestamp()))::bigint,
    concat_ws(' ', (SELECT extract(epoch FROM stats_reset) FROM pg_stat_archiver), here.oid),
    concat_ws(' ', extract(epoch FROM pg_postmaster_start_time()),
        extract(epoch FROM pg_stat_get_db_stat_reset_time(here.oid))),
    (SELECT json_agg(oid::bigint ORDER BY number)::text FROM asked),
    (SELECT json_agg(json_build_array(counters, on_heap) ORDER BY number)::text FROM (
        SELECT number, string_agg(concat_ws('/', oid, pg_relation_filenode(oid),
            pg_stat_get_tuples_inserted(oid), pg_stat_get_tuples_updated(oid),
            pg_stat_get_tuples_deleted(oid)), ' ' ORDER BY oid) AS counters,
            bool_and(relkind = 'p' OR relam = {heap}) AS on_heap
        FROM family LEFT JOIN pg_class USING (oid) GROUP BY number) AS writes),
    (SELECT json_agg((
        SELECT json_agg(json_build_array(
            attname, format_type(atttypid, atttypmod), NOT attnotnull,
            CASE WHEN attgenerated = 'v' THEN (SELECT pg_get_expr(adbin, adrelid)
                FROM pg_attrdef WHERE adrelid = attrelid AND adnum = attnum) END) ORDER BY attnum)
        FROM pg_attribute WHERE attrelid = asked.oid AND attnum > 0 AND NOT attisdropped
    ) ORDER BY number)::text FROM asked),
    (SELECT json_agg(json_build_array(number, typrelid::text, attname, type_name)
            ORDER BY typrelid, attnum)::text
        FROM consisting CROSS JOIN LATERAL (
            SELECT typrelid, attname, attnum, format_type(atttypid, atttypmod) AS type_name
            FROM pg_type JOIN pg_attribute ON attrelid = typrelid
            WHERE pg_type.oid = type AND typtype = 'c' AND attnum > 0 AND NOT attisdropped OFFSET 0
        ) AS attributes),
    (SELECT json_agg(json_build_array(number, oid::text, enumlabel) ORDER BY oid)::text
        FROM consisting CROSS JOIN LATERAL (
            SELECT oid, enumlabel FROM pg_enum WHERE enumtypid = type OFFSET 0
        ) AS labels)
FROM pg_database AS here WHERE datname = current_database()) AS seen
"""
_HEAP = 2  # the oid of the access method: HEAP_TABLE_AM_OID in src/include/catalog/pg_am.dat
_FIRST_OWN_TYPE = 16_384  # oids below are PostgreSQL's own types: no enums, no composites
_HIGHEST = "(SELECT coalesce(max({id}), 0) FROM {table})"


@dataclass(frozen=True, slots=True)
class Survey:
    """The state of the tables at one moment, by their names.

    Attributes:
        highest_ids: the highest committed ids, 0 for an empty table; empty if not asked for.
        marks: the snapshot, with each table's history, counters and declaration. Without those of
            views, foreign tables and others that are not in the heap, or have such partitions: no
            `xmin`.
        declared: the columns of each table; empty for a table that does not exist.
    """

    highest_ids: Mapping[str, int] = field(default_factory=dict)
    marks: Mapping[str, Mark] = field(default_factory=dict)
    declared: Mapping[str, Declared] = field(default_factory=dict)


def read_survey(
    tables: Sequence[Table], connection: Connection, *, with_ids: bool = True
) -> Survey:
    """Return the state of the tables; without `with_ids`, no table itself is read.

    Raises:
        SourceError: the highest id of one of the tables can't be read.
        SourceUnavailableError: the database can't be reached, or the connection broke.
    """
    names = [table.name for table in tables]
    quoted = literal([identifier(name) for name in names])
    highest = ",".join(["", *map(_highest, tables)]) if with_ids else ""
    with database_errors("Looking for new rows"):
        prepare(connection)
        numbers = {"first_own": _FIRST_OWN_TYPE, "heap": _HEAP}
        [row] = connection.run(
            _SURVEY.format(proof=PROOF, names=quoted, highest=highest, **numbers)
        )
    snapshot, at, history, since, oids, writes, *declared, proof = row[:10]
    prove("Totesys", proof, connection)
    columns, attributes, labels = (json.loads(part or "[]") for part in declared)
    states = zip(names, *map(json.loads, (oids, writes)), strict=True)
    return Survey(
        dict(zip(names, row[10:], strict=True)) if with_ids else {},
        {
            name: Mark(
                snapshot,
                f"{history} {oid}",
                f"{since} {counters}",
                at,
                lines_depend_on(
                    [[column, type_name, text] for column, type_name, _, text in found or ()],
                    _of(attributes, number),
                    _of(labels, number),
                ),
            )
            for number, (found, (name, oid, (counters, is_versioned))) in enumerate(
                zip(columns, states, strict=True), 1
            )
            if is_versioned is not False
        },
        {
            name: tuple((column, type_name, nullable) for column, type_name, nullable, _ in found)
            for name, found in zip(names, (found or () for found in columns), strict=True)
        },
    )


def _of(parts: Sequence[Sequence[Any]], number: int) -> list[list[Any]]:
    """Return those parts that belong to a table, by its number."""
    return [part for owner, *part in parts if owner == number]


def read_highest_ids(tables: Sequence[Table], connection: Connection) -> dict[str, int]:
    """Return the highest committed id of each table by its name, 0 for an empty table.

    Raises:
        SourceError, SourceUnavailableError: see `read_survey`.
    """
    with database_errors("Looking for new rows"):
        prepare(connection)
        [(proof, *ids)] = connection.run(f"SELECT {', '.join([PROOF, *map(_highest, tables)])}")
        prove("Totesys", proof, connection)
    return {table.name: highest for table, highest in zip(tables, ids, strict=True)}


def _highest(table: Table) -> str:
    return _HIGHEST.format(id=identifier(table.id_column), table=identifier(table.name))
