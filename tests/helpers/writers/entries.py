"""A table `entry`, sessions that write to it, and one that reads it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from services.ingestion.new_rows import read_new_rows
from shared.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from pg8000.native import Connection

    from shared.postgres.reader import Batch
    from tests.conftest import Database

SERIAL = "CREATE TABLE entry (entry_id serial PRIMARY KEY, note text)"
INSERT = "INSERT INTO entry (note) VALUES ('open')"

# The statements of a read that finds a gap and does not wait, by number.
DESCRIBE, READ, LIST, READ_GAPS = range(4)


class Entries:
    """The table `entry` in a database of a test's own.

    Attributes:
        writer: a session in autocommit, of the superuser.
        reader: a session of the user who reads, and may do nothing else.
    """

    def __init__(self, database: Database, *schema: str) -> None:
        """Create the table.

        Args:
            database: where.
            schema: the statements that create it; a serial id and a note without any.
        """
        self._database = database
        self.writer = database.connect()
        for statement in schema or (SERIAL,):
            self.writer.run(statement)
        self.reader = database.connect("reader")

    def add(self, rows: int = 1) -> list[int]:
        """Commit rows; return their ids."""
        found = self.writer.run(
            "INSERT INTO entry (note) SELECT 'added' FROM generate_series(1, :rows)"
            " RETURNING entry_id",
            rows=rows,
        )
        return [row_id for [row_id] in found]

    def roll_back(self, rows: int = 1) -> list[int]:
        """Insert rows and roll them back; return the ids that are missing now."""
        self.writer.run("BEGIN")
        missing = self.add(rows)
        self.writer.run("ROLLBACK")
        return missing

    def connect(self) -> Connection:
        """Return another session that may write, in autocommit."""
        return self._database.connect()

    def open(self, *statements: str) -> Connection:
        """Return a session with an open transaction that has run the statements."""
        session = self.connect()
        session.run("BEGIN")
        for statement in statements:
            session.run(statement)
        return session

    def read(self, row_id: int = 0, limit: int | None = None, wait_seconds: float = 0) -> Batch:
        """Read the table, as the reader."""
        return read_new_rows(Table("entry"), row_id, self.reader, limit, wait_seconds=wait_seconds)


def ids(batch: Batch) -> list[int]:
    """Return the ids of the rows."""
    found: list[int] = batch.ids.tolist()
    return found


def wait_for(session: Connection, query: str) -> None:
    """Return as soon as the query says true."""
    deadline = time.monotonic() + 20
    while session.run(query) != [[True]]:
        assert time.monotonic() < deadline, query
        time.sleep(0.01)


class Interleaved:
    """A session in which other things happen right before its statements.

    Attributes:
        statements: what was run, in order.
        results: what came back.
    """

    def __init__(
        self, session: Connection, steps: Mapping[int, Sequence[Callable[[], object]]]
    ) -> None:
        """Wrap a session.

        Args:
            session: runs the statements.
            steps: what happens before a statement, by its number.
        """
        self._session = session
        self._steps = dict(steps)
        self.statements: list[str] = []
        self.results: list[Any] = []

    def run(self, sql: str) -> Any:
        """Take the steps that are due, then run the statement; settings do not count."""
        if sql.lstrip().startswith("SET "):
            return self._session.run(sql)
        for step in self._steps.pop(len(self.statements), ()):
            step()
        self.statements.append(sql)
        self.results.append(self._session.run(sql))
        return self.results[-1]

    def finish(self) -> None:
        """Take the steps before statements that were never run."""
        for number in sorted(self._steps):
            for step in self._steps.pop(number):
                step()
