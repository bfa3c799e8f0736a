"""Connections to PostgreSQL; knows nothing of tables."""

from __future__ import annotations

import os
import re
import socket
import ssl
import struct
from contextlib import closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pg8000.exceptions import DatabaseError, InterfaceError
from scramp import ScramException

from shared.errors import ConfigError, SourceError, SourceUnavailableError
from shared.postgres.credentials import CACHED_SECONDS, get_credentials
from shared.postgres.driver import LibpqConnection
from shared.postgres.proof import prepare
from shared.postgres.refusals import database_errors, is_fatal, is_password_rejected
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pg8000.native import Connection

    from shared.postgres.credentials import Credentials
    from shared.settings import DatabaseSettings

ROOT = Path(__file__).resolve().parents[2]

CONNECT_TIMEOUT_SECONDS = 5

# The first version with all that is asked of a server: pg_current_snapshot() is its newest.
_OLDEST_VERSION = 13
# The role may have these, of the version they came with; they would end a session that waits.
_LATER_TIMEOUTS = {"idle_session_timeout": 14, "transaction_timeout": 17}


class Session:
    """A session that is opened again, once, after it was lost.

    The statement that was running fails, and with it whatever it was part of: nothing is read half
    in one session and half in another.

    Attributes:
        connection: the connection, whose loss may not have been noticed yet.
    """

    def __init__(self, connect_again: Callable[[], Connection]) -> None:
        """Open it.

        Raises:
            PipelineError: what `connect_again` raises.
        """
        self.connection = connect_again()
        self._connect_again = connect_again
        self._is_lost = False
        self._was_lost = False

    def run(self, sql: str) -> Any:
        """Return the rows of a statement.

        Raises:
            DatabaseError, InterfaceError, OSError: see `database_errors`.
            PipelineError: the session was lost, and can't be opened again.
        """
        if self._is_lost:
            self._open_again()
        self._is_lost = True  # until all of the answer was read
        try:
            rows = self.connection.run(sql)
        except DatabaseError as error:
            self._is_lost = is_fatal(error)
            raise
        self._is_lost = False
        return rows

    def close(self) -> None:
        """Close it."""
        disconnect(self.connection)

    def _open_again(self) -> None:
        if self._was_lost:
            raise SourceUnavailableError(
                "The session was lost before, and is opened again only once. Nothing is lost: the "
                "next run opens another one."
            )
        self._was_lost = True
        logger().warning("The session was lost and is opened again")
        disconnect(self.connection)
        self.connection = self._connect_again()
        self._is_lost = False
        prepare(self)


@contextmanager
def database_session(settings: DatabaseSettings) -> Iterator[Session]:
    """Open the session that the settings describe, and close it at the end.

    A warm process caches the secret. If its password is rejected, it may have been rotated: the
    secret is read again, once.

    Raises:
        ConfigError, LandingUnavailableError: see `get_credentials`.
        SourceError, SourceUnavailableError, ConfigError: see `connect`.
    """
    with closing(Session(partial(_connect_with_secret, settings))) as session:
        yield session


def _connect_with_secret(settings: DatabaseSettings) -> Connection:
    """Connect; if the cached password is rejected, read the secret again and try once more."""
    secret_id, ca_file = settings.db_secret_id, ROOT / settings.db_ca_file
    credentials = get_credentials(secret_id)
    try:
        return connect(credentials, ca_file, settings.statement_timeout_seconds)
    except SourceError as error:
        if not is_password_rejected(error):
            raise
        rejection = error
    rotated = get_credentials(secret_id, fresh=True)
    if rotated != credentials:  # don't retry the same ones: failed logins lock some roles out
        logger().info(
            "Password rejected; reconnecting with the rotated secret", extra={"secret": secret_id}
        )
        try:
            return connect(rotated, ca_file, settings.statement_timeout_seconds)
        except SourceError as error:
            if not is_password_rejected(error):
                raise
            rejection = error
    raise SourceError(
        f"{rejection} The secret is {secret_id!r}, read again just now. A warm function caches it "
        f"for {CACHED_SECONDS} s, or until the password is rejected."
    ) from rejection.__cause__


def connect(credentials: Credentials, ca_file: Path, statement_timeout_seconds: int) -> Connection:
    """Open a read-only session; TLS is verified, except over a unix socket.

    Each statement is a transaction of its own (autocommit), and is cancelled after
    `statement_timeout_seconds`.

    Raises:
        SourceUnavailableError: the server can't be reached, or accepts no connection now.
        SourceError: the server rejects us, or its certificate can't be verified.
        ConfigError: the CA file is missing or holds no certificate.
    """
    # By default, pg8000 tries TLS without verifying the certificate, and silently falls back to
    # plain text. So it gets a context of our own, or an explicit False.
    tls = False if credentials.unix_socket else _verifying_context(ca_file)
    place = f"PostgreSQL at {credentials.host}:{credentials.port}"
    with database_errors(place), _open_socket(credentials) as opened:
        try:
            connection = LibpqConnection(
                credentials.username,
                password=credentials.password,
                database=credentials.dbname,
                host=credentials.host,
                sock=opened,
                ssl_context=tls,
                application_name="totesys-ingestion",
                # By default it is the database's, and pg8000 does not know each of them.
                startup_params={"client_encoding": "UTF8"},
            )
            _set_up(connection, place, statement_timeout_seconds)
        except ssl.SSLEOFError:
            raise  # the connection broke, as it does when the server shuts down
        except ssl.SSLError as error:
            # For a certificate, `error.reason` says only that it can't be verified.
            reason = getattr(error, "verify_message", error.reason)
            raise SourceError(
                f"{place} can't be trusted: {reason}. It needs a valid certificate for this "
                "host name, and databaseCaFile the certificate of its issuer."
            ) from error
        except ScramException as error:
            raise SourceError(
                f"{place}: the password can't be proved by SCRAM: {error}. Set the role's password "
                "anew, with scram_iterations of 4096 or more."
            ) from error
        except (LookupError, ValueError, struct.error) as error:
            raise SourceError(
                f"{place} does not answer as PostgreSQL does. Put the right host and port into the "
                "secret."
            ) from error
        # The socket's timeout is per read, and a statement may send nothing for longer.
        connection._usock.settimeout(statement_timeout_seconds + CONNECT_TIMEOUT_SECONDS)
        return connection


def disconnect(connection: Connection) -> None:
    """Close a session. It may be lost already, so an error while closing it is ignored."""
    buffered = connection._sock
    with suppress(DatabaseError, InterfaceError, OSError):  # see the docstring
        connection.close()
    if buffered:
        # Otherwise Python warns of unsent bytes when it collects the buffer.
        with suppress(OSError):
            buffered.close()


@contextmanager
def _open_socket(credentials: Credentials) -> Iterator[socket.socket]:
    """Open a socket to the server; close it if connecting fails, which pg8000 does not do."""
    address = (credentials.host, credentials.port)
    if credentials.unix_socket:
        opened = socket.socket(socket.AF_UNIX)
    else:
        opened = socket.create_connection(address, CONNECT_TIMEOUT_SECONDS)
    try:
        opened.settimeout(CONNECT_TIMEOUT_SECONDS)
        if credentials.unix_socket:
            opened.connect(credentials.unix_socket)
        else:
            opened.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        yield opened
    except BaseException:
        # Not close(): it waits for the file object that pg8000 makes of the socket and leaves open.
        if (descriptor := opened.detach()) != -1:
            os.close(descriptor)
        raise


def _verifying_context(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(
            f"No CA certificates in {ca_file}: {error.strerror or error}. Fix DB_CA_FILE."
        ) from error


def _set_up(connection: Connection, place: str, statement_timeout_seconds: int) -> None:
    """Limit what the session may do, and for how long.

    Not by `options` when it connects: poolers and proxies refuse them.
    """
    said = connection.parameter_statuses["server_version"]
    version = int(re.split(r"\D", said, maxsplit=1)[0])
    if version < _OLDEST_VERSION:
        raise SourceError(
            f"{place} is version {said}. The service needs {_OLDEST_VERSION} or newer: upgrade it."
        )
    milliseconds = statement_timeout_seconds * 1000
    settings = {
        "default_transaction_read_only": "on",
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds // 2,
        "idle_in_transaction_session_timeout": milliseconds,
        **{name: 0 for name, since in _LATER_TIMEOUTS.items() if version >= since},
    }
    connection.run("; ".join(f"SET {name} = {value}" for name, value in settings.items()))
