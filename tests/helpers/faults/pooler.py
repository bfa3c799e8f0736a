"""A stand-in for poolers and proxies: it gives each message of a client the next of its backends.

With one backend it pools by session. Like PgBouncer and RDS Proxy it refuses `options`.
"""

from __future__ import annotations

import socket
import struct
import threading
from contextlib import suppress
from itertools import cycle
from typing import TYPE_CHECKING, BinaryIO, Self

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pg8000.native import Connection

_PORT = 6432
_READY = b"Z" + struct.pack("!i", 5) + b"I"


class Pooler:
    """Listens on a unix socket, for one client at a time; a context manager that stops it.

    Attributes:
        host: the directory of its socket.
        port: the number in the socket's name.
    """

    def __init__(self, folder: Path, backends: Sequence[Connection]) -> None:
        """Prepare it.

        Args:
            folder: where its socket will be; the path must be short.
            backends: sessions that are logged in; whoever made them ends them.
        """
        self.host, self.port = str(folder), _PORT
        self._backends = backends
        self._turns = cycle(backends)
        self._listener = socket.socket(socket.AF_UNIX)
        self._thread = threading.Thread(target=self._serve)

    def __enter__(self) -> Self:
        """Begin to listen."""
        self._listener.bind(f"{self.host}/.s.PGSQL.{self.port}")
        self._listener.listen()
        self._thread.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop."""
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        with suppress(OSError):  # it was stopped
            while True:
                client, _ = self._listener.accept()
                with client, client.makefile("rb") as received:
                    if self._log_in(client, received):
                        self._pass_on(client, received)

    def _log_in(self, client: socket.socket, received: BinaryIO) -> bool:
        [length] = struct.unpack("!i", received.read(4))
        if b"\0options\0" in received.read(length - 4):
            fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            client.sendall(_message(b"E", fields))
            return False
        said = self._backends[0].parameter_statuses
        client.sendall(
            _message(b"R", struct.pack("!i", 0))
            + b"".join(_message(b"S", f"{k}\0{v}\0".encode()) for k, v in said.items())
            + _message(b"K", struct.pack("!ii", 1, 2))
            + _READY
        )
        return True

    def _pass_on(self, client: socket.socket, received: BinaryIO) -> None:
        while (kind := received.read(1)) and kind != b"X":
            [length] = struct.unpack("!i", received.read(4))
            backend = next(self._turns)._usock
            backend.sendall(kind + struct.pack("!i", length) + received.read(length - 4))
            while not _is_ready(answer := _read_message(backend)):
                client.sendall(answer)
            client.sendall(answer)


def _message(kind: bytes, content: bytes) -> bytes:
    return kind + struct.pack("!i", len(content) + 4) + content


def _read_message(backend: socket.socket) -> bytes:
    head = _read_exactly(backend, 5)
    [length] = struct.unpack("!i", head[1:])
    return head + _read_exactly(backend, length - 4)


def _read_exactly(backend: socket.socket, size: int) -> bytes:
    return backend.recv(size, socket.MSG_WAITALL) if size else b""


def _is_ready(answer: bytes) -> bool:
    return answer[:1] == b"Z"
