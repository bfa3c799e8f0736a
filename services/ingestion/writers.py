"""The transactions that may yet commit rows into a table: who they are, and waiting for their ends.

They are found by the locks that `new_rows` explains. CREATE INDEX CONCURRENTLY waits for writers in
the same way.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

from pg8000.native import identifier, literal

if TYPE_CHECKING:
    from collections.abc import Collection

    from pg8000.native import Connection

    from shared.postgres.catalogue import Description

_FIRST_POLL_SECONDS, _LONGEST_POLL_SECONDS = 0.01, 0.5

# Every transaction that may yet commit rows into the table, its partitions or children, or through
# its partitioned parents, or that drew an id which it has yet to insert. A prepared transaction has
# no pid. It keeps its virtualtransaction; before PostgreSQL 13.5 it gets one that begins with -1.
_OPEN_WRITERS = """
WITH RECURSIVE up AS (
    SELECT to_regclass({name})::oid AS oid
    UNION SELECT inhparent FROM up JOIN pg_inherits ON inhrelid = up.oid
), family AS (
    SELECT oid FROM up UNION SELECT unnest({sequences}::bigint[])::oid
    UNION SELECT inhrelid FROM family JOIN pg_inherits ON inhparent = family.oid
)
SELECT DISTINCT virtualtransaction, pid FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND relation IN (SELECT oid FROM family) AND pid IS DISTINCT FROM pg_backend_pid()
"""
# Who runs them: found by pid; for prepared transactions, by the lock on their own transaction id.
_SESSIONS = """
SELECT pid, usename, application_name FROM pg_stat_activity WHERE pid = ANY ({pids}::int[])
"""
_PREPARED = """
SELECT gid, owner FROM pg_prepared_xacts JOIN pg_locks ON transactionid = transaction
WHERE locktype = 'transactionid' AND virtualtransaction = ANY ({virtualtransactions}::text[])
"""


class Writer(NamedTuple):
    """A transaction that writes; a prepared one has no pid."""

    virtualtransaction: str
    pid: int | None


def wait_for_writers(
    description: Description, connection: Connection, wait_seconds: float
) -> tuple[set[Writer], float]:
    """Wait for the table's current writers; return those still open, and the seconds waited."""
    started = time.monotonic()
    deadline = started + wait_seconds
    pause = _FIRST_POLL_SECONDS
    writers = _open_writers(description, connection)
    while writers and time.monotonic() < deadline:
        time.sleep(min(pause, max(0.0, deadline - time.monotonic())))
        pause = min(pause * 2, _LONGEST_POLL_SECONDS)
        writers = _still_open(writers, _open_writers(description, connection))
    return writers, time.monotonic() - started


def describe(writers: Collection[Writer], connection: Connection) -> list[dict[str, Any]]:
    """Return who runs each open transaction, and the statement that ends it."""
    pids = sorted(writer.pid for writer in writers if writer.pid is not None)
    prepared = sorted(writer.virtualtransaction for writer in writers if writer.pid is None)
    described = []
    if pids:
        found = connection.run(_SESSIONS.format(pids=literal(pids)))
        described += [
            {
                "pid": pid,
                "role": role,
                "application": application,
                "end_with": f"SELECT pg_terminate_backend({pid})",
            }
            for pid, role, application in found
        ]
    if prepared:
        found = connection.run(_PREPARED.format(virtualtransactions=literal(prepared)))
        described += [
            {"prepared": gid, "role": role, "end_with": f"ROLLBACK PREPARED {literal(gid)}"}
            for gid, role in found
        ]
    return described


def _still_open(before: set[Writer], now: set[Writer]) -> set[Writer]:
    """Return the writers from `before` that are still open; a prepared one may be any of them."""
    known = {writer.virtualtransaction for writer in before}
    return {
        writer
        for writer in now
        if writer.virtualtransaction in known or writer.virtualtransaction.startswith("-1/")
    }


def _open_writers(description: Description, connection: Connection) -> set[Writer]:
    name = literal(identifier(description.table.name))
    sequences = literal(list(description.sequences))
    found = connection.run(_OPEN_WRITERS.format(name=name, sequences=sequences))
    return {Writer(*row) for row in found}
