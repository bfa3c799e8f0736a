"""A TLS front for PostgreSQL: the embedded server is built without OpenSSL.

It does what a server with OpenSSL does: it answers the SSLRequest, speaks TLS, and passes on what
it deciphers. https://www.postgresql.org/docs/current/protocol-flow.html#PROTOCOL-FLOW-SSL
"""

from __future__ import annotations

import asyncio
import ssl
import struct
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import Iterator
    from pathlib import Path

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class TlsFront:
    """The front, and what it was sent.

    Attributes:
        port: where it listens, on 127.0.0.1.
        versions: the TLS version of each session that was opened.
        plain: what it was sent outside of TLS, but for the SSLRequest.
    """

    def __init__(self, upstream: str, certificate: Path | None, answer: bytes) -> None:
        """Prepare a front; `tls_front` is the way to get one that runs."""
        self.port = 0
        self.versions: list[str] = []
        self.plain = b""
        self._upstream, self._answer = upstream, answer
        self._context: ssl.SSLContext | None = None
        if certificate:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(certificate)

    async def listen(self) -> asyncio.Server:
        """Take connections."""
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def _take(self, reader: StreamReader, writer: StreamWriter) -> None:
        # A client that refuses the certificate breaks off.
        with suppress(OSError, asyncio.IncompleteReadError):
            await self._welcome(reader, writer)
        writer.close()

    async def _welcome(self, reader: StreamReader, writer: StreamWriter) -> None:
        request = await reader.readexactly(len(SSL_REQUEST))
        if request != SSL_REQUEST:
            self.plain += request
            return
        writer.write(self._answer)
        await writer.drain()
        if self._context is None:
            self.plain += await reader.read(65_536)
            return
        await writer.start_tls(self._context)
        self.versions.append(writer.get_extra_info("ssl_object").version())
        await self._pass_on(reader, writer)

    async def _pass_on(self, reader: StreamReader, writer: StreamWriter) -> None:
        server_reader, server_writer = await asyncio.open_unix_connection(self._upstream)
        await asyncio.gather(_copy(reader, server_writer), _copy(server_reader, writer))


async def _copy(source: StreamReader, target: StreamWriter) -> None:
    with suppress(OSError):
        while data := await source.read(65_536):
            target.write(data)
            await target.drain()
    target.close()


@contextmanager
def tls_front(upstream: str, certificate: Path | None, answer: bytes = b"S") -> Iterator[TlsFront]:
    """Run a front.

    Args:
        upstream: the path of the server's unix socket.
        certificate: the file with its key and certificate; None if it speaks no TLS.
        answer: what it says to an SSLRequest.
    """
    front = TlsFront(upstream, certificate, answer)
    with asyncio.Runner() as runner:
        loop = runner.get_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        server = asyncio.run_coroutine_threadsafe(front.listen(), loop).result()
        try:
            yield front
        finally:
            asyncio.run_coroutine_threadsafe(_close(server), loop).result()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()


async def _close(server: asyncio.Server) -> None:
    server.close()
    await server.wait_closed()
