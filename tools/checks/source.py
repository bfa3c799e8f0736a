"""A session with the database of a stage, opened as the service opens its own."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from pg8000.native import identifier

from shared.errors import SourceUnavailableError
from shared.postgres.catalogue import read_description
from shared.postgres.proof import prepare
from shared.postgres.refusals import database_errors
from shared.postgres.session import ROOT, connect, disconnect
from shared.tables import Table
from tools.checks.check import Finding, ok, skipped
from tools.checks.facts import Facts, read_facts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pg8000.native import Connection

    from shared.postgres.catalogue import Description
    from shared.postgres.credentials import Credentials
    from tools.checks.stage import Stage


@dataclass
class Source:
    """The database of a stage, and a session like one of the service's.

    Attributes:
        stage: the stage.
        credentials: those in the secret.
        connection: the session.
    """

    stage: Stage
    credentials: Credentials
    connection: Connection
    _descriptions: dict[str, Description] = field(default_factory=dict)

    @property
    def role(self) -> str:
        """The role, as SQL quotes it."""
        return str(identifier(self.credentials.username))

    @cached_property
    def tables(self) -> Sequence[Facts]:
        """What the catalogue says of the tables.

        Raises:
            SourceError, SourceUnavailableError: see `run`.
        """
        with database_errors("Reading the catalogue"):
            return read_facts(self.connection)

    def describe(self, name: str) -> Description:
        """Return the description of a table, read once.

        Raises:
            SourceError: it has no integer id column.
            SourceUnavailableError: the connection broke.
        """
        if name not in self._descriptions:
            with database_errors(f"Describing {name!r}"):
                self._descriptions[name] = read_description(Table(name), self.connection)
        return self._descriptions[name]

    def run(self, sql: str) -> list[list[Any]]:
        """Return the rows of a statement.

        Raises:
            SourceError, SourceUnavailableError: see `database_errors`.
        """
        with database_errors("The database"):
            return list(self.connection.run(sql))

    def another(self) -> Connection:
        """Open another session, which the caller closes.

        Raises:
            PipelineError: see `connect`.
        """
        return _connect(self.stage, self.credentials)

    def close(self) -> None:
        """Close the session."""
        disconnect(self.connection)


def open_source(found: tuple[Stage, Credentials]) -> tuple[Source | None, Finding]:
    """Log in as the service does: it verifies the certificate, and refuses servers before 13."""
    stage, credentials = found
    try:
        connection = _connect(stage, credentials)
    except SourceUnavailableError as error:
        if not (stage.is_in_vpc and isinstance(error.__cause__, OSError)):
            raise
        return None, skipped(
            f"{credentials.host} is in a VPC and can't be reached from here: {error.__cause__}",
            "Run this inside of that VPC. Or call the function, whose error says what to do: "
            f"make ingest STAGE={stage.name}",
        )
    with database_errors("The database"):
        prepare(connection)
    version = connection.parameter_statuses["server_version"]
    who = f"{credentials.dbname} as {credentials.username}"
    return Source(stage, credentials, connection), ok(f"PostgreSQL {version}, {who}")


def _connect(stage: Stage, credentials: Credentials) -> Connection:
    seconds = stage.settings.statement_timeout_seconds
    return connect(credentials, ROOT / stage.settings.db_ca_file, seconds)
