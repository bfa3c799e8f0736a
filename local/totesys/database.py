"""An embedded PostgreSQL: a real server, disposable, reached by a unix socket only."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, Self

from pg8000.native import Connection, identifier, literal

from local.totesys.postgres import Guard, PostgresError, Programs

if TYPE_CHECKING:
    from collections.abc import Mapping

ADMIN: Final = "postgres"
READER: Final = "reader"
PASSWORD: Final = "reader's password"
HASH_KEY: Final = "the key of the hashes, for this machine only"

DEFAULT_SETTINGS: Final[Mapping[str, str | int]] = {
    "listen_addresses": "",
    "port": 5432,
    "max_connections": 100,
    "max_prepared_transactions": 20,
    "password_encryption": "scram-sha-256",  # the default from version 14 on
    "timezone": "UTC",
    "log_timezone": "UTC",
    # A disposable server must survive its own crashes, but not the machine's.
    "fsync": "off",
    "full_page_writes": "off",
    # A cluster in memory keeps its log there, too.
    "max_wal_size": "256MB",
}

# Where Linux keeps files in memory: a database of 300 files is copied there in 20 ms, in up to
# 300 ms on an ext4 that many files were deleted from.
_MEMORY = Path("/dev/shm")
_ROOM = 2 << 30

_HBA = f"""\
local all,replication {ADMIN} trust
local all all scram-sha-256
host all all all scram-sha-256
"""


class Server:
    """A disposable PostgreSQL server; a context manager that stops it.

    It has two users: `postgres`, the superuser, who needs no password, and `reader`, who may read
    every table that `postgres` creates, and needs one. The server stops when the process that
    started it ends, even by a kill.

    Attributes:
        directory: The data directory.
        host: The directory of the unix socket, short enough for its 107 bytes.
        port: The number in the name of the socket.
        log_path: The server's log, which is deleted when the server stops.
    """

    def __init__(self, directory: Path | None, settings: Mapping[str, str | int]) -> None:
        """Prepare a server; `Server.start` is the way to get a running one."""
        # Not tempfile's default: sockets need a short path, and one open to the server's user.
        scratch = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
        try:
            self._programs = Programs(scratch)
        except BaseException:
            shutil.rmtree(scratch)
            raise
        self._settings = {**DEFAULT_SETTINGS, **settings, "unix_socket_directories": str(scratch)}
        self.directory = directory.absolute() if directory else _temporary_directory()
        self.host = str(scratch)
        self.port = int(self._settings["port"])
        self.log_path = scratch / "postgresql.log"
        temporary = [scratch] if directory else [scratch, self.directory]
        self._guard = Guard(self._programs, self.directory, self.log_path, temporary)

    @classmethod
    def start(
        cls, directory: Path | None = None, settings: Mapping[str, str | int] | None = None
    ) -> Self:
        """Start a server and return once it takes connections.

        Args:
            directory: Where the cluster is: created if it is empty or missing, used as it is if
                it holds one (a base backup, too), kept when the server stops. Without it the
                cluster is temporary.
            settings: Lines of postgresql.conf that are added to DEFAULT_SETTINGS.

        Raises:
            PostgresError: The server did not start; the message holds the end of its log.
        """
        server = cls(directory, settings or {})
        try:
            server._start()
        except BaseException:
            server.stop()
            raise
        return server

    def __enter__(self) -> Self:
        """Return the server itself."""
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop the server."""
        self.stop()

    def connect(self, dbname: str = ADMIN, user: str = ADMIN) -> Connection:
        """Open a connection, which the caller closes."""
        return Connection(
            user,
            password=PASSWORD,
            unix_sock=f"{self.host}/.s.PGSQL.{self.port}",
            database=dbname,
            # Else pg8000 reads all certificates of the system: 20 ms a connection.
            ssl_context=False,
            startup_params={"client_encoding": "UTF8"},  # as the service's, see session.py
        )

    @property
    def version(self) -> int:
        """The server's major version."""
        return int((self.directory / "PG_VERSION").read_text())

    def secret(self, dbname: str) -> dict[str, str | int]:
        """Return what the service's secret holds: `reader`'s access to a database, and a key."""
        return {
            "host": self.host,
            "port": self.port,
            "dbname": dbname,
            "username": READER,
            "password": PASSWORD,
            "hash_key": HASH_KEY,
        }

    def create_database(self, name: str, template: str | None = None) -> None:
        """Create a database, empty or as a copy of one that nobody is connected to."""
        source = identifier(template or "template1")
        # Copying files is twice as fast as logging each page, where nothing is synced to disk.
        strategy = "STRATEGY file_copy" if self.version >= 15 else ""
        self._execute(f"CREATE DATABASE {identifier(name)} TEMPLATE {source} {strategy}")

    def drop_database(self, name: str) -> None:
        """Drop a database with its sessions and prepared transactions."""
        self._roll_back_prepared(name)
        self._execute(f"DROP DATABASE {identifier(name)} WITH (FORCE)")

    def binary(self, name: str) -> Path:
        """Return the path of a PostgreSQL program, such as `psql` or `pg_basebackup`."""
        return self._programs.path(name)

    def restart(self, mode: Literal["fast", "immediate"] = "fast") -> None:
        """Stop the server, if it runs, and start it; `immediate` is a crash with recovery.

        Raises:
            PostgresError: The server did not come back.
        """
        self._guard.pg_ctl(f"restart -m {mode}")

    def kill(self) -> None:
        """Crash the server; it stays down until `restart`."""
        self._guard.pg_ctl("stop -m immediate")

    def stop(self) -> None:
        """Stop the server and remove what is temporary; a second call does nothing."""
        self._guard.end()

    def _start(self) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        is_new = not (self.directory / "PG_VERSION").exists()
        if is_new and any(self.directory.iterdir()):
            raise PostgresError(
                f"{self.directory} is neither empty nor a cluster: choose another directory."
            )
        self._programs.own(self.directory)
        if is_new:
            self._initialise()
        with (self.directory / "postgresql.conf").open("a") as file:
            file.writelines(f"{k} = {literal(str(v))}\n" for k, v in self._settings.items())
        self._guard.pg_ctl("start")
        if is_new:
            self._create_reader()

    def _initialise(self) -> None:
        options = ("--no-locale", "--encoding=UTF8", "--no-sync", f"--username={ADMIN}")
        self._programs.run("initdb", *options, "-D", self.directory)
        (self.directory / "pg_hba.conf").write_text(_HBA)

    def _create_reader(self) -> None:
        # In template1, so that new databases have them: default privileges belong to one database.
        self._execute(
            f"CREATE ROLE {READER} LOGIN PASSWORD {literal(PASSWORD)};"
            f"ALTER DEFAULT PRIVILEGES FOR ROLE {ADMIN} GRANT SELECT ON TABLES TO {READER}",
            dbname="template1",
        )

    def _roll_back_prepared(self, dbname: str) -> None:
        prepared = f"SELECT gid FROM pg_prepared_xacts WHERE database = {literal(dbname)}"
        for (gid,) in self._execute(prepared):
            self._execute(f"ROLLBACK PREPARED {literal(gid)}", dbname)

    def _execute(self, sql: str, dbname: str = ADMIN) -> list[list[str]]:
        with closing(self.connect(dbname)) as connection:
            return list(connection.run(sql) or ())


def _temporary_directory() -> Path:
    with suppress(OSError):
        if shutil.disk_usage(_MEMORY).free > _ROOM:
            return Path(tempfile.mkdtemp(prefix="pg-", dir=_MEMORY))
    return Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))
