"""Stand-ins for a server, on a unix socket."""

from __future__ import annotations

import socket
import tempfile
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def listening(port: int, serve: Callable[[socket.socket], None]) -> Iterator[str]:
    """Listen as PostgreSQL would, and serve one client after the other.

    Args:
        port: the number in the name of the socket.
        serve: called with each client, which it need not close.

    Yields:
        The host to connect to: the folder of the socket.
    """

    def serve_all() -> None:
        with suppress(OSError):  # nobody listens any more
            while True:
                client, _ = listener.accept()
                with client:
                    serve(client)

    with (
        tempfile.TemporaryDirectory(dir="/tmp") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{folder}/.s.PGSQL.{port}")
        listener.listen()
        thread = threading.Thread(target=serve_all)
        thread.start()
        try:
            yield folder
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
