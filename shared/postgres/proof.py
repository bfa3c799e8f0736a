"""What a session must be for its reads to be exact, and how each statement proves that it was.

Settings of a role, of a database or of a pooler change how values are spelled and which rows are
seen. So a session is prepared, whoever opened it; and because a pooler may run the next statement
in another backend, every statement that returns rows or ids returns its proof with them.
"""

from __future__ import annotations

import uuid
from functools import cache
from typing import TYPE_CHECKING, Final

from pg8000.native import literal

from shared.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pg8000.native import Connection

# How values and names are spelled; and that a policy that hides rows is an error.
_SETTINGS: Final[Mapping[str, str]] = {
    "TimeZone": "UTC",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "bytea_output": "hex",
    "extra_float_digits": "1",
    "lc_monetary": "C",
    "client_encoding": "UTF8",
    "standard_conforming_strings": "on",
    "quote_all_identifiers": "off",
    "row_security": "off",
}
# A statement that waited for a lock sees what was committed meanwhile only in READ COMMITTED: else
# its snapshot is older than the wait, and it finds a table that was reloaded empty.
_ISOLATION: Final = "read committed"
_SESSION: Final = "totesys.session"  # a parameter of ours, that no other backend has

# now() is the start of the transaction, and differs from that of the statement only inside a
# transaction block.
PROOF: Final = "concat_ws('|', {})".format(
    ", ".join(
        [
            "now() = statement_timestamp()",
            "NOT pg_is_in_recovery()",
            f"coalesce(current_setting('{_SESSION}', true), '')",
            "current_setting('transaction_isolation')",
            *(f"current_setting('{name}')" for name in _SETTINGS),
        ]
    )
)


def prepare(connection: Connection) -> None:
    """Set what `PROOF` proves, however the session was opened.

    This is a message of its own, because the server reads each message in the encoding that was set
    before it.
    """
    settings = {
        **_SETTINGS,
        "default_transaction_isolation": _ISOLATION,
        _SESSION: _name(connection),
    }
    connection.run("; ".join(f"SET {name} = {literal(value)}" for name, value in settings.items()))


def prove(what: str, proof: str, connection: Connection) -> None:
    """Refuse what was read where no read is exact.

    Args:
        what: the name of what was read, for the message.
        proof: what the statement that read it returned for `PROOF`.
        connection: the session, which was prepared.

    Raises:
        SourceError: inside a transaction, on a standby, or in a session that is not ours.
    """
    alone, on_primary, *found = proof.split("|")
    if alone != "t":
        why = "inside a transaction: rows committed meanwhile would stay invisible. Commit first."
    elif on_primary != "t":
        why = "on a standby: it does not see the primary's locks. Connect to the primary."
    elif found != [_name(connection), _ISOLATION, *_SETTINGS.values()]:
        why = (
            "in a session whose settings change between two statements, as those of a pooler or a "
            "proxy do. Connect to the database itself, or let the pooler pool by session."
        )
    else:
        return
    raise SourceError(f"{what!r} can't be read exactly {why}")


def _name(connection: Connection) -> str:
    # If another connection has had this name before, then with the same settings.
    return f"{_process()}-{id(connection)}"


@cache
def _process() -> str:
    return uuid.uuid4().hex
