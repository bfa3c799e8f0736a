"""A stand-in for poolers and proxies: it gives each message of a client the next of its backends.

With one backend it pools by session. Like PgBouncer and RDS Proxy it refuses `options`.
"""

from __future__ import annotations

import socket
import struct
from itertools import cycle
from typing import TYPE_CHECKING, BinaryIO, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pg8000.native import Connection

_READY = b"Z" + struct.pack("!i", 5) + b"I"


class Pooler:
    """Serves clients from its backends, one message after the other.

    Attributes:
        PORT: the number in the name of its socket.
    """

    PORT: Final = 6432

    def __init__(self, backends: Sequence[Connection], **said: str) -> None:
        """Prepare it.

        Args:
            backends: sessions that are logged in; whoever made them ends them.
            said: what it says of the server that is not so, such as `server_version`.
        """
        self._said = backends[0].parameter_statuses | said
        self._turns = cycle(backends)

    def serve(self, client: socket.socket) -> None:
        """Serve a client until it leaves; see `listening`."""
        with client.makefile("rb") as received:
            if self._log_in(client, received):
                self._pass_on(client, received)

    def _log_in(self, client: socket.socket, received: BinaryIO) -> bool:
        [length] = struct.unpack("!i", received.read(4))
        if b"\0options\0" in received.read(length - 4):
            fields = b"SFATAL\0C08P01\0Munsupported startup parameter: options\0\0"
            client.sendall(_message(b"E", fields))
            return False
        client.sendall(
            _message(b"R", struct.pack("!i", 0))
            + b"".join(_message(b"S", f"{k}\0{v}\0".encode()) for k, v in self._said.items())
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
