"""PostgreSQL for the tests: one server for all of them, a database of its own for each."""

from __future__ import annotations

import json
import sys
from contextlib import closing, contextmanager, suppress
from itertools import count
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings
from pg8000.exceptions import InterfaceError

from local import totesys as totesys_database
from local.totesys.database import ADMIN, Server
from shared import errors, telemetry
from shared.contracts import contract as contracts
from tests.helpers.faults.processes import processes_of
from tests.helpers.oracle.untold import telling
from tests.helpers.servers import SHIMS

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterator

    from pg8000.native import Connection

    from local.stage import LocalStage

_numbers = count(1)


def pytest_configure(config: pytest.Config) -> None:
    """Let pg8000 lose a connection, and properties take their time."""
    # The buffer of a lost connection still holds the farewell that nobody can take.
    lost = (
        r"ignore:Exception ignored in. <_io.BufferedRWPair:pytest.PytestUnraisableExceptionWarning"
    )
    config.addinivalue_line("filterwarnings", lost)
    # No example is too slow: how long one takes says more of the machine than of the code.
    settings.register_profile("ours", deadline=None)
    settings.load_profile("ours")


@pytest.fixture(scope="session")
def told() -> Iterator[list[str]]:
    """The log lines so far that tell what no line may tell, whatever stream they went to."""
    handler = telemetry.logger().registered_handler
    render, lines = handler.format, []

    def listening(record: logging.LogRecord) -> str:
        line = render(record)
        lines.extend(telling([line]))
        return line

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(handler, "format", listening)
        yield lines


@pytest.fixture(autouse=True)
def nothing_is_told(told: list[str]) -> Iterator[None]:
    """No test lets a password or the value of a row be logged."""
    yield
    lines = told.copy()
    told.clear()
    assert lines == []


@pytest.fixture(scope="session", autouse=True)
def everything_lands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Whatever the contracts say by x-land, in tests all columns land; `x_land` says otherwise."""
    folder = tmp_path_factory.mktemp("contracts")
    for path in contracts.FOLDER.glob("*.json"):
        document = json.loads(path.read_text())
        for column in document["properties"].values():
            column.pop("x-land", None)
        (folder / path.name).write_text(json.dumps(document))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(contracts, "FOLDER", folder)
        yield


class Database:
    """A database that one test has for itself; what the test leaves open is closed after it."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.name = name
        self.secret = server.secret(name)
        self._connections: list[Connection] = []

    def connect(self, user: str = ADMIN) -> Connection:
        """Open a connection, as the superuser or as `reader`, the user in the secret."""
        connection = self.server.connect(self.name, user)
        self._connections.append(connection)
        return connection

    def close(self) -> None:
        """Close every connection."""
        for connection in self._connections:
            # The test may have closed it, or the server.
            with suppress(InterfaceError, OSError):
                connection.close()


@contextmanager
def _temporary_database(server: Server, template: str | None = None) -> Iterator[Database]:
    name = f"test_{next(_numbers)}"
    server.create_database(name, template)
    with closing(Database(server, name)) as database:
        yield database
    server.drop_database(name)


@pytest.fixture(autouse=True)
def a_failed_assertion_ends_the_test(monkeypatch):
    """Let an AssertionError in a double or a step through, which is not a failure of a table."""

    def explained_or_raised(error: Exception) -> errors.PipelineError:
        if isinstance(error, AssertionError):
            raise error
        return errors.explained(error)

    for name in ("ingestion.run", "ingestion.handler", "reconciliation.handler"):
        if module := sys.modules.get(f"services.{name}"):
            monkeypatch.setattr(module, "explained", explained_or_raised)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """One embedded server for the whole test session."""
    with Server.start() as running:
        with closing(running.connect("template1")) as connection:
            for brought, shim in SHIMS.items():
                if running.version < brought:
                    connection.run(shim)
        yield running


@pytest.fixture(scope="session")
def totesys_template(server: Server) -> str:
    """The name of a seeded Totesys database, for `totesys` to copy; nobody connects to it."""
    name = "totesys_template"
    server.create_database(name)
    with closing(server.connect(name)) as connection:
        totesys_database.create(connection)
        totesys_database.seed(connection, events=300)
    return name


@pytest.fixture
def database(server: Server) -> Iterator[Database]:
    """An empty database."""
    with _temporary_database(server) as created:
        yield created


@pytest.fixture
def totesys(server: Server, totesys_template: str) -> Iterator[Database]:
    """A Totesys database with 300 business events."""
    with _temporary_database(server, totesys_template) as created:
        yield created


@pytest.fixture(scope="session")
def stage() -> Iterator[LocalStage]:
    """One deployed local stage; tests leave it able to run, and expect nothing of what has landed.

    Nothing of it may be left at the end.
    """
    from local.stage import LocalStage  # takes a second, and most tests have no stage

    with LocalStage(events=300) as running:
        server = running.server
        folders = [server.host, str(server.directory), running.aws.folder]
        assert all(processes_of(folder) for folder in folders)
        yield running
        logged = [*running.log.lines(), *running.reconcile_log.lines()]
    assert [processes_of(folder) for folder in folders] == [[], [], []]
    assert logged
    assert telling(logged) == []
