"""pg8000's connection, where it must behave as libpq's: when it logs in, and when it is lost.

SASLprep brings the different spellings of a password into one form, and refuses passwords with
certain characters. libpq and the server then take the password as it is; pg8000's library refuses
it: https://www.postgresql.org/docs/current/sasl-authentication.html#SASL-SCRAM-SHA-256

A server that ends a session says why before it closes the connection; pg8000 forgets it.
"""

from __future__ import annotations

import stringprep
import unicodedata
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pg8000.core import Context
from pg8000.exceptions import InterfaceError
from pg8000.native import Connection

from shared.postgres.refusals import is_fatal

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_SASL = (10).to_bytes(4)  # the server asks for SCRAM
# The server takes the role's name from the connection, whatever SCRAM says. pg8000's library
# refuses names as it refuses passwords.
_NOBODY = b"-"

_PROHIBITED: Sequence[Callable[[str], bool]] = (
    stringprep.in_table_a1,  # not assigned in Unicode 3.2: most emojis
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


class LibpqConnection(Connection):  # type: ignore[misc] # pg8000 has no types
    """A connection that behaves as libpq's does."""

    user: bytes
    password: bytes

    def handle_AUTHENTICATION_REQUEST(self, data: bytes, context: Any) -> None:
        """Answer the server, with the password as libpq spells it."""
        if not data.startswith(_SASL):
            super().handle_AUTHENTICATION_REQUEST(data, context)
            return
        user, password = self.user, self.password
        self.user = self.password = _NOBODY
        super().handle_AUTHENTICATION_REQUEST(data, context)
        self.user, self.password = user, password
        self.auth.password = spelled(password.decode()).encode()

    def handle_ERROR_RESPONSE(self, data: bytes, context: Any) -> None:
        """Raise the error at once if nothing else will follow it."""
        super().handle_ERROR_RESPONSE(data, context)
        if is_fatal(context.error):
            raise context.error

    def execute_simple(self, statement: str) -> Any:
        """Run a statement; if it can't be sent, raise what the server said before it left."""
        try:
            return super().execute_simple(statement)
        except InterfaceError as error:
            if isinstance(error.__cause__, BrokenPipeError):
                with suppress(InterfaceError):  # it said nothing: the first error is raised
                    self.handle_messages(Context(None))
            raise


def spelled(password: str) -> str:
    r"""Return a password as libpq spells it for SCRAM.

    Like libpq it looks for prohibited characters before it normalizes:
    https://github.com/postgres/postgres/blob/master/src/common/saslprep.c

    >>> spelled("ﬁne"), spelled("\u00a0"), spelled("tab\té")
    ('fine', ' ', 'tab\té')
    """
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(each) else each
        for each in password
        if stringprep.in_table_c12(each) or not stringprep.in_table_b1(each)
    )
    if not mapped or any(is_in(each) for each in mapped for is_in in _PROHIBITED):
        return password
    right_to_left = [stringprep.in_table_d1(each) for each in mapped]
    if any(right_to_left) and (
        any(map(stringprep.in_table_d2, mapped)) or not (right_to_left[0] and right_to_left[-1])
    ):
        return password
    return unicodedata.normalize("NFKC", mapped)
