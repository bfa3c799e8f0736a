"""How we connect to PostgreSQL and what its errors mean; nothing about tables."""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from pg8000.exceptions import DatabaseError, InterfaceError
from pg8000.native import Connection

from shared.errors import ConfigError, PipelineError, SourceError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from shared.settings import Credentials

CONNECT_TIMEOUT_SECONDS = 5

# Classes of SQLSTATE that another try may mend: connection, rollback, resources, not in the right
# state (a lock), operator intervention (shutdown, statement timeout), system.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT_CLASSES = {"08", "40", "53", "55", "57", "58"}

_SPELLING = """
SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET IntervalStyle = 'postgres';
SET bytea_output = 'hex'; SET extra_float_digits = 1; SET lc_monetary = 'C';
SET client_encoding = 'UTF8'; SET standard_conforming_strings = on
"""

_REMEDIES = {
    "25P02": "Roll the connection's transaction back before it is read from.",
    "28P01": "Put the right username and password into the secret.",
    "28000": "Check username, pg_hba.conf and TLS rules of the server.",
    "3D000": "Put the right dbname into the secret.",
    "42501": "GRANT the role what it lacks: CONNECT on the database, USAGE on the schema, "
    "SELECT on the table.",
    "54000": "A row of it exceeds the 1 GB that PostgreSQL can send at once: shorten it.",
    "42P01": "Check the name of the table, and the role's search_path.",
}


def connect(credentials: Credentials, ca_file: Path, statement_timeout_seconds: int) -> Connection:
    """Open a read-only session; TLS is verified, except over a unix socket.

    Each statement is a transaction of its own and ends after `statement_timeout_seconds`.

    Raises:
        SourceUnavailableError: the server does not answer, or not now.
        SourceError: the server answered and is not to be used: certificate, password, database.
        ConfigError: the CA file is missing or holds no certificate.
    """
    # pg8000's default tries TLS without checking the certificate, and falls back to plain text
    # without a word: only a context of our own, or False, is what it says.
    tls = False if credentials.unix_socket else _verifying_context(ca_file)
    place = f"PostgreSQL at {credentials.host}:{credentials.port}"
    with database_errors(place), _open_socket(credentials) as opened:
        try:
            connection = Connection(
                credentials.username,
                password=credentials.password,
                database=credentials.dbname,
                host=credentials.host,
                sock=opened,
                ssl_context=tls,
                application_name="totesys-ingestion",
                startup_params={"options": _session_options(statement_timeout_seconds)},
            )
        except ssl.SSLEOFError:
            raise  # it broke off, as a server does that is going down
        except ssl.SSLError as error:
            # For a certificate, `reason` says only that it is not to be trusted.
            reason = getattr(error, "verify_message", error.reason)
            raise SourceError(
                f"{place} is not to be trusted: {reason}. It needs a valid certificate for this "
                "host name, and databaseCaFile the certificate of its issuer."
            ) from error
        # The timeout so far is one for each read. A statement may be quiet for longer.
        connection._usock.settimeout(statement_timeout_seconds + CONNECT_TIMEOUT_SECONDS)
        return connection


def set_spelling(connection: Connection) -> None:
    """Let values and names be spelled as we expect, however the session was opened.

    A statement of its own: another one in its message would be read in the old encoding.
    """
    connection.run(_SPELLING)


def disconnect(connection: Connection) -> None:
    """Close a session, which may have broken off: saying goodbye is no reason to fail."""
    buffered = connection._sock
    with suppress(InterfaceError, OSError):
        connection.close()
    if buffered:
        # Or Python complains, when it is collected, of what could not be sent.
        with suppress(OSError):
            buffered.close()


def is_password_refused(error: PipelineError) -> bool:
    """Tell whether `connect` failed because user name and password don't match."""
    refusal = _refusal(error.__cause__)
    return refusal is not None and _fields(refusal).get("C") == "28P01"


@contextmanager
def _open_socket(credentials: Credentials) -> Iterator[socket.socket]:
    """Reach the server; a socket that becomes no connection is closed, whatever pg8000 leaves."""
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
        # Not close(): that waits for the file pg8000 made of it, which nobody closes.
        if (descriptor := opened.detach()) != -1:
            os.close(descriptor)
        raise


def _verifying_context(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        raise ConfigError(
            f"No CA certificates in {ca_file}: {error.strerror or error}. Mend DB_CA_FILE."
        ) from error


def _session_options(statement_timeout_seconds: int) -> str:
    milliseconds = statement_timeout_seconds * 1000
    options = {
        "default_transaction_read_only": "on",
        "statement_timeout": milliseconds,
        "lock_timeout": milliseconds // 2,
        "idle_in_transaction_session_timeout": milliseconds,
        "TimeZone": "UTC",
        "DateStyle": "ISO",
        "IntervalStyle": "postgres",
    }
    return " ".join(f"-c {name}={value}" for name, value in options.items())


@contextmanager
def database_errors(what: str) -> Iterator[None]:
    """Turn errors of the driver into ours.

    Args:
        what: whom the message names as the one that failed.

    Raises:
        SourceUnavailableError: another try may mend it.
        SourceError: somebody has to mend it.
    """
    try:
        yield
    except (DatabaseError, InterfaceError, OSError) as error:
        refusal = _refusal(error)
        if refusal:
            raise _explain(what, refusal) from error
        if "refuses SSL" in str(error):
            raise SourceError(f"{what} offers no TLS. Turn `ssl` on in the server.") from error
        raise SourceUnavailableError(
            f"{what} does not answer: {error}. Check that it runs, and that security groups and "
            "subnets let the function reach it."
        ) from error


def _refusal(error: BaseException | None) -> DatabaseError | None:
    """Return what the server said, which pg8000 buries when it then fails to say goodbye to it."""
    while error is not None and not isinstance(error, DatabaseError):
        error = error.__context__
    return error


def _fields(error: DatabaseError) -> dict[str, str]:
    """Return what the server said, by the letters of PostgreSQL's protocol."""
    return error.args[0] if error.args and isinstance(error.args[0], dict) else {}


def _explain(what: str, error: DatabaseError) -> PipelineError:
    # Only the primary message: DETAIL and CONTEXT may quote values of rows.
    fields = _fields(error)
    code, message = fields.get("C", "?????"), fields.get("M", "no message")
    kind = SourceUnavailableError if code[:2] in _TRANSIENT_CLASSES else SourceError
    remedy = _REMEDIES.get(code, "Look the code up in PostgreSQL's table of error codes.")
    return kind(f"{what}: {message} (SQLSTATE {code}). {remedy}")
