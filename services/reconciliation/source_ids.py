"""Reads which ids a table of the database has, by short statements: an id for each of its rows."""

from __future__ import annotations

from binascii import a2b_base64
from typing import TYPE_CHECKING

import numpy as np
from pg8000.native import identifier

from services.reconciliation import digests
from services.reconciliation.digests import Digest
from services.reconciliation.ids import NO_IDS, Ids
from shared.postgres.proof import PROOF, prepare, prove
from shared.postgres.refusals import database_errors
from shared.postgres.versions import not_below_xmin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pg8000.native import Connection

    from shared.snapshot import Mark
    from shared.tables import Table

_STATEMENT_IDS = 100_000
_LOOKED_UP_IDS = 10_000

# Ids in PostgreSQL's binary form.
_IDS = """
SELECT {proof}, encode(string_agg(int8send(id), ''), 'base64')
FROM (SELECT t.{id}::bigint AS id FROM {table} AS t WHERE {condition} ORDER BY t.{id}{limit}) AS t
"""
_DIGEST = """
SELECT {proof}, {sums} FROM (SELECT t.{id}::bigint AS id FROM {table} AS t WHERE {condition}) AS t
"""
_WITHOUT_ID = "SELECT {proof}, count(*) FROM {table} AS t WHERE t.{id} IS NULL"
_BETWEEN = "t.{id} > {above} AND t.{id} <= {up_to}"
_STILL_THERE = "t.{id} = ANY ('{{{ids}}}'::bigint[]) AND NOT ({excepted})"
# A version that was committed after the statement was planned has an age below 0. It is new, too.
_TOO_NEW = "age(t.xmin) BETWEEN (SELECT age(pg_snapshot_xmax(pg_current_snapshot())::xid)) AND 0"


def read_digest(table: Table, above: int, up_to: int, connection: Connection) -> Digest:
    """Return the digest of the ids of a range.

    Raises:
        SourceError, SourceUnavailableError: see `read_ids`.
    """
    _prepare(table, connection)
    names = {"id": _id(table), "table": identifier(table.name)}
    condition = _BETWEEN.format(id=_id(table), above=above, up_to=up_to)
    sql = _DIGEST.format(**names, proof=PROOF, sums=digests.SQL, condition=condition)
    with database_errors(f"Reading the ids of {table.name!r}"):
        [(proof, *sums)] = connection.run(sql)
    prove(table.name, proof, connection)
    return Digest(*map(int, sums))


def read_ids(
    table: Table, above: int, up_to: int, connection: Connection
) -> Iterator[tuple[int, Ids]]:
    """Yield the ids of a range in ascending stretches, each with the id it ends at.

    An id occurs as often as there are rows of it.

    Raises:
        SourceError: no such table or id column, no permission, inside a transaction, on a standby.
        SourceUnavailableError: the database can't be reached, or the connection broke.
    """
    _prepare(table, connection)
    more = True
    while more:
        condition = _BETWEEN.format(id=_id(table), above=above, up_to=up_to)
        ids = _read(table, condition, connection, _STATEMENT_IDS)
        more = len(ids) >= _STATEMENT_IDS
        above = int(ids[-1]) if more else up_to
        yield above, ids


def read_still_there(table: Table, ids: Ids, connection: Connection, since: Mark | None) -> Ids:
    """Return the ids of rows that have one of these, ascending, without those newer than a mark.

    Raises:
        SourceError, SourceUnavailableError: see `read_ids`.
    """
    _prepare(table, connection)
    excepted = f"{not_below_xmin(since)} OR {_TOO_NEW}" if since else "false"
    found = [NO_IDS]
    for start in range(0, len(ids), _LOOKED_UP_IDS):
        some = ",".join(map(str, ids[start : start + _LOOKED_UP_IDS].tolist()))
        condition = _STILL_THERE.format(id=_id(table), ids=some, excepted=excepted)
        found.append(_read(table, condition, connection))
    return np.sort(np.concatenate(found))


def count_without_id(table: Table, connection: Connection) -> int:
    """Return how many rows have no id.

    Raises:
        SourceError, SourceUnavailableError: see `read_ids`.
    """
    names = {"id": _id(table), "table": identifier(table.name)}
    _prepare(table, connection)
    with database_errors(f"Reading the ids of {table.name!r}"):
        [(proof, count)] = connection.run(_WITHOUT_ID.format(**names, proof=PROOF))
    prove(table.name, proof, connection)
    return int(count)


def _prepare(table: Table, connection: Connection) -> None:
    with database_errors(f"Reading the ids of {table.name!r}"):
        prepare(connection)


def _id(table: Table) -> str:
    name: str = identifier(table.id_column)
    return name


def _read(table: Table, condition: str, connection: Connection, limit: int | None = None) -> Ids:
    names = {"id": _id(table), "table": identifier(table.name)}
    # Rows of one id are never parted.
    limited = f" FETCH FIRST {limit} ROWS WITH TIES" if limit else ""
    sql = _IDS.format(**names, proof=PROOF, condition=condition, limit=limited)
    with database_errors(f"Reading the ids of {table.name!r}"):
        [(proof, packed)] = connection.run(sql)
    prove(table.name, proof, connection)
    return np.frombuffer(a2b_base64(packed or ""), ">i8").astype(np.int64)
