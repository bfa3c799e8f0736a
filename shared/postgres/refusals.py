"""What the errors of the server and its driver mean."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from pg8000.exceptions import DatabaseError, InterfaceError

from shared.errors import PipelineError, SourceError, SourceUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

# Classes of SQLSTATE that a retry may fix: connection exception, transaction rollback, insufficient
# resources, object not in prerequisite state (lock timeout), operator intervention (shutdown,
# statement timeout), system error.
# https://www.postgresql.org/docs/current/errcodes-appendix.html
_TRANSIENT_CLASSES = {"08", "40", "53", "55", "57", "58"}

# Classes whose messages may quote values: data exception, PL/pgSQL error.
_QUOTING_CLASSES = {"22", "P0"}

# The routine that refuses what a policy would hide; its SQLSTATE is that of a missing GRANT.
_ROW_SECURITY = "check_enable_rls"

_REMEDIES = {
    "25P02": "Roll back the connection's transaction before reading from it.",
    "28P01": "Put the right username and password into the secret.",
    "28000": "Check username, pg_hba.conf and TLS rules of the server.",
    "3D000": "Put the right dbname into the secret.",
    "42501": "GRANT the role what it lacks: CONNECT on the database, USAGE on the schema, "
    "SELECT on the table.",
    "54000": "A row exceeds the 1 GB that PostgreSQL can send at once: shorten it.",
    "42P01": "Check the name of the table, and the role's search_path.",
}
_LATER = "Nothing is lost: the next run tries again."


def is_password_rejected(error: PipelineError) -> bool:
    """Tell whether `connect` failed because the server rejected the password (28P01)."""
    refusal = _refusal(error.__cause__)
    return refusal is not None and sqlstate(refusal) == "28P01"


def sqlstate(error: DatabaseError) -> str:
    """Return the SQLSTATE of the server's error; five question marks if it has none."""
    return _fields(error).get("C", "?????")


def is_fatal(error: DatabaseError) -> bool:
    """Tell whether the server has ended the session with this error."""
    return _fields(error).get("V") in {"FATAL", "PANIC"}


@contextmanager
def database_errors(what: str) -> Iterator[None]:
    """Turn the driver's errors into ours.

    Args:
        what: what failed, for the message: `Reading 'address'`.

    Raises:
        SourceUnavailableError: a retry may succeed.
        SourceError: somebody has to fix the cause.
    """
    try:
        yield
    except (DatabaseError, InterfaceError, OSError) as error:
        refusal = _refusal(error)
        if refusal:
            raise _explain(what, refusal) from error
        if "refuses SSL" in str(error):
            raise SourceError(f"{what} offers no TLS. Turn `ssl` on in the server.") from error
        if "Authentication method" in str(error):
            raise SourceError(
                f"{what}: {error} Let pg_hba.conf ask the role for scram-sha-256."
            ) from error
        raise SourceUnavailableError(
            f"{what} does not answer: {error}. Check that it runs, and that security groups and "
            "subnets let the function reach it."
        ) from error


def _refusal(error: BaseException | None) -> DatabaseError | None:
    """Return the server's error, which pg8000 hides behind its own failure to disconnect."""
    while error is not None and not isinstance(error, DatabaseError):
        error = error.__context__
    return error


def _fields(error: DatabaseError) -> dict[str, str]:
    """Return the fields of the server's error: C is the SQLSTATE, M the primary message.

    https://www.postgresql.org/docs/current/protocol-error-fields.html
    """
    return error.args[0] if error.args and isinstance(error.args[0], dict) else {}


def _explain(what: str, error: DatabaseError) -> PipelineError:
    # Only the primary message is passed on, because DETAIL and CONTEXT may quote values of rows.
    # So does the primary message of a failed cast, and that of a function may. The latter always
    # has a CONTEXT (field W).
    fields = _fields(error)
    code, message = sqlstate(error), fields.get("M", "no message")
    if code[:2] in _QUOTING_CLASSES or "W" in fields:
        message = "it failed on a row, see the server's log"
    kind = SourceUnavailableError if code[:2] in _TRANSIENT_CLASSES else SourceError
    remedy = _REMEDIES.get(
        code, _LATER if kind.transient else "Look up the code in PostgreSQL's table of error codes."
    )
    if fields.get("R") == _ROW_SECURITY:
        remedy = (
            "Some of its rows would be hidden: ALTER ROLE ... BYPASSRLS, or ALTER TABLE ... "
            "DISABLE ROW LEVEL SECURITY."
        )
    return kind(f"{what}: {message} (SQLSTATE {code}). {remedy}")
