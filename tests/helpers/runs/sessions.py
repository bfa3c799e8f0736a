"""Sessions as the functions open them, and the socket beneath."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from shared.postgres.session import database_session
from shared.settings import DatabaseSettings

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from pg8000.native import Connection


@contextmanager
def session_of_the_function() -> Iterator[Connection]:
    """Open the session that the environment describes."""
    with database_session(DatabaseSettings.from_env(os.environ)) as connection:
        yield connection


def socket_of(connection: Connection) -> socket.socket:
    """Return the socket that a session reads from."""
    found: socket.socket = connection._usock
    return found


# A function that fails with the SQLSTATE it is given. Whoever selects from the view calls it.
FAILING = r"""
CREATE FUNCTION fail(code text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION USING ERRCODE = code, MESSAGE = 'so it failed';
END $$
"""
FAILING_VIEW = "CREATE OR REPLACE VIEW thing AS SELECT 1 AS thing_id, fail('{code}') AS name"
