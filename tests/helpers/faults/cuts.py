"""A PostgreSQL whose connections are cut after some bytes: a proxy on a unix socket."""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

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

    def __init__(self, database: Database, folder: Path) -> None:
        """Listen in a folder; `cut_database` is the way to get one that runs."""
        self.secret = database.secret | {"host": str(folder)}
        self.connect = database.connect  # the way round the proxy, for the test's own use
        self.allowed: int | None = None
        self.passed = 0
        self._upstream = f"{database.secret['host']}/.s.PGSQL.{database.secret['port']}"
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(f"{folder}/.s.PGSQL.{self.secret['port']}")
        self._listener.listen()

    def serve(self) -> None:
        """Take connections until `close`."""
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
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

    def close(self) -> None:
        """Take no more connections."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


def _pump(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65_536):
            target.sendall(data)
        target.shutdown(socket.SHUT_RDWR)


@contextmanager
def cut_database(database: Database) -> Iterator[CutDatabase]:
    """Run a proxy in front of a database."""
    with tempfile.TemporaryDirectory(prefix="cut-", dir="/tmp") as folder:
        proxy = CutDatabase(database, Path(folder))
        thread = threading.Thread(target=proxy.serve)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.close()
            thread.join()
