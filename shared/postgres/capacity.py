"""How many connections the server would still accept from us."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from shared.postgres.refusals import database_errors

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pg8000.native import Connection

# Backends are counted per database, because of other roles' sessions a role may not see what kind
# they are. -1 stands for no limit. reserved_connections came with PostgreSQL 16.
_CAPACITY = """
SELECT current_setting('max_connections')::int
     - current_setting('superuser_reserved_connections')::int
     - coalesce(current_setting('reserved_connections', true), '0')::int,
    (SELECT sum(numbackends)::int FROM pg_stat_database),
    (SELECT datconnlimit FROM pg_database WHERE datname = current_database()),
    (SELECT numbackends FROM pg_stat_database WHERE datname = current_database()),
    (SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user),
    (SELECT count(*)::int FROM pg_stat_activity WHERE usename = current_user)
"""


class Capacity(NamedTuple):
    """A limit of connections.

    Attributes:
        of: what has the limit, and how it is raised: `The server (max_connections)`.
        limit: how many connections there may be.
        used: how many there are, ours among them.
    """

    of: str
    limit: int
    used: int

    @property
    def free(self) -> int:
        """How many more there may be."""
        return max(0, self.limit - self.used)


def read_capacities(connection: Connection) -> Sequence[Capacity]:
    """Return every limit that the session's role, database and server have.

    Raises:
        SourceError, SourceUnavailableError: see `database_errors`.
    """
    with database_errors("Counting the connections"):
        [row] = connection.run(_CAPACITY)
    server, in_all, database, in_database, role, of_role = row
    found = (
        Capacity("The server (max_connections)", server, in_all),
        Capacity("The database (ALTER DATABASE ... CONNECTION LIMIT)", database, in_database),
        Capacity("The role (ALTER ROLE ... CONNECTION LIMIT)", role, of_role),
    )
    return [each for each in found if each.limit >= 0]
