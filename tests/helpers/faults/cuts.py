"""A PostgreSQL whose connections are cut after some bytes: a proxy on a unix socket."""

from __future__ import annotations

import socket
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from tests.helpers.faults.listening import listening

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database


class CutDatabase:
    """A database behind a proxy that passes so many bytes of its answers on, and no more.

    Attributes:
        secret: the way through the proxy.
        allowed: how many bytes of answers the next connection gets; None for all.
        passed: how many bytes of answers the last connection got.
    """

    def __init__(self, database: Database) -> None:
        """Prepare the proxy; `cut_database` is the way to get one that runs."""
        self.secret = database.secret
        self.connect = database.connect  # the way round the proxy, for the test's own use
        self.allowed: int | None = None
        self.passed = 0
        self._upstream = f"{database.secret['host']}/.s.PGSQL.{database.secret['port']}"

    def serve(self, client: socket.socket) -> None:
        """Serve a connection; see `listening`."""
        server = socket.socket(socket.AF_UNIX)
        server.connect(self._upstream)
        up = threading.Thread(target=_pump, args=(client, server), daemon=True)
        up.start()
        self._answer(server, client)
        up.join()

    def _answer(self, server: socket.socket, client: socket.socket) -> None:
        allowed, self.passed = self.allowed, 0
        with server, client, suppress(OSError):
            while data := server.recv(65_536):
                data = data if allowed is None else data[: allowed - self.passed]
                client.sendall(data)
                self.passed += len(data)
                if self.passed == allowed:
                    break
            for end in (client, server):
                end.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_database(database: Database) -> Iterator[CutDatabase]:
    """Run a proxy in front of a database."""
    proxy = CutDatabase(database)
    with listening(int(database.secret["port"]), proxy.serve) as host:
        proxy.secret = database.secret | {"host": host}
        yield proxy
