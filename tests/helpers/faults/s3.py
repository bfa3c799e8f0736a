"""An S3 that fails: a proxy on loopback, which does to single requests what networks and S3 do.

It can stand in front of other services, too, and change what they answer.
"""

from __future__ import annotations

import http.client
import os
import re
import signal
import socket
import struct
import threading
from contextlib import contextmanager
from dataclasses import dataclass, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tests.helpers.faults.processes import process_at

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_HOP_BY_HOP = {"connection", "transfer-encoding", "keep-alive"}
# Closing a socket that lingers for no time at all sends a reset.
_NO_LINGER = struct.pack("ii", 1, 0)

type Fault = Callable[[Exchange], None]


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def place(self) -> str:
        """The request without what is special to a bucket or a moment."""
        _, _, path = self.path.lstrip("/").partition("/")
        key = re.sub(r"-[\dT-]{19}\.jsonl", ".jsonl", path)
        return f"{self.method} {key or '?list'}"


@dataclass(frozen=True)
class Answer:
    """An answer of the S3 behind the proxy."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes


class Exchange:
    """One request and the ways to deal with it."""

    def __init__(self, handler: _Handler, request: Request, proxy: FaultyS3) -> None:
        self._handler = handler
        self.request = request
        self.proxy = proxy

    @property
    def client(self) -> int:
        """The process that asks; on this machine."""
        return process_at(self._handler.client_address[1])

    def forward(self) -> Answer:
        """Let S3 have the request; return its answer without passing it on."""
        return self.proxy.forward(self.request)

    def answer(self, answer: Answer, length: int | None = None) -> None:
        """Pass an answer on, or only so many bytes of its body before the connection ends."""
        handler = self._handler
        handler.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in _HOP_BY_HOP:
                handler.send_header(name, value)
        handler.send_header("Connection", "close")
        handler.end_headers()
        if self.request.method != "HEAD":
            handler.wfile.write(answer.body[:length])

    def refuse(self, status: int, code: str) -> None:
        """Answer with an error of S3's."""
        body = f"<Error><Code>{code}</Code><Message>Said the proxy.</Message></Error>".encode()
        headers = [("Content-Type", "application/xml"), ("Content-Length", str(len(body)))]
        self.answer(Answer(status, headers, body))

    def reset(self) -> None:
        """Break the connection off."""
        self._handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
        self._handler.connection.close()


def refused(status: int, code: str) -> Fault:
    """Return the fault that S3 answers an error, having done nothing."""
    return lambda exchange: exchange.refuse(status, code)


def reset(exchange: Exchange) -> None:
    """Break off, S3 having seen nothing."""
    exchange.reset()


def silence(exchange: Exchange) -> None:
    """Do not answer until the proxy is closed."""
    exchange.proxy.closing.wait()


def applied_then_failed(exchange: Exchange) -> None:
    """Answer 500 although it was done."""
    exchange.forward()
    exchange.refuse(500, "InternalError")


def applied_then_reset(exchange: Exchange) -> None:
    """Break off although it was done."""
    exchange.forward()
    exchange.reset()


def truncated(exchange: Exchange) -> None:
    """Break off in the middle of the answer's body."""
    answer = exchange.forward()
    exchange.answer(answer, len(answer.body) // 2)


def garbled(exchange: Exchange) -> None:
    """Answer what a captive portal would."""
    body = b"<html><p>Please log in<br></html>"
    headers = [("Content-Type", "text/html"), ("Content-Length", str(len(body)))]
    exchange.answer(Answer(200, headers, body))


def altered(change: Callable[[Answer], Answer]) -> Fault:
    """Return the fault that the answer is another one."""

    def alter(exchange: Exchange) -> None:
        answer = change(exchange.forward())
        headers = [each for each in answer.headers if each[0].lower() != "content-length"]
        length = ("Content-Length", str(len(answer.body)))
        exchange.answer(Answer(answer.status, [*headers, length], answer.body))

    return alter


def reworded(said: bytes, instead: bytes) -> Fault:
    """Return the fault that the answer says something else."""

    def reword(answer: Answer) -> Answer:
        assert said in answer.body, answer.body
        return replace(answer, body=answer.body.replace(said, instead))

    return altered(reword)


def client_killed(exchange: Exchange) -> None:
    """Kill the process that asks, S3 having seen nothing."""
    os.kill(exchange.client, signal.SIGKILL)
    exchange.reset()


def applied_then_client_killed(exchange: Exchange) -> None:
    """Kill the process that asks, although it was done."""
    exchange.forward()
    client_killed(exchange)


def held(exchange: Exchange) -> None:
    """Keep the request for `FaultyS3.release`, and break off."""
    exchange.proxy.held.append(exchange.request)
    exchange.reset()


class FaultyS3(ThreadingHTTPServer):
    """A proxy in front of an S3.

    Attributes:
        choose: picks the fault for a request, None to pass it on.
        held: requests that are still on their way.
        closing: set when the proxy is about to close.
    """

    daemon_threads = True

    def __init__(self, upstream: str) -> None:
        """Listen on a free port; `faulty_s3` is the way to get one that runs."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self._upstream = urlsplit(upstream).netloc
        self.choose: Callable[[Request], Fault | None] = lambda _: None
        self.held: list[Request] = []
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"http://127.0.0.1:{self.server_port}"

    def forward(self, request: Request) -> Answer:
        """Let S3 have a request."""
        connection = http.client.HTTPConnection(self._upstream, timeout=30)
        try:
            connection.request(request.method, request.path, request.body, request.headers)
            answer = connection.getresponse()
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def release(self) -> list[Answer]:
        """Let the requests arrive that were held; return S3's answers."""
        answers = [self.forward(request) for request in self.held]
        self.held.clear()
        return answers

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a client that has gone."""


class _Handler(BaseHTTPRequestHandler):
    server: FaultyS3
    protocol_version = "HTTP/1.1"  # or clients wait a second for a 100 Continue

    def _exchange(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        request = Request(self.command, self.path, dict(self.headers), body)
        exchange = Exchange(self, request, self.server)
        self.close_connection = True
        fault = self.server.choose(request)
        if fault:
            fault(exchange)
        else:
            exchange.answer(exchange.forward())

    do_GET = do_HEAD = do_PUT = do_POST = _exchange

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@contextmanager
def faulty_s3(upstream: str) -> Iterator[FaultyS3]:
    """Run a proxy in front of an S3."""
    proxy = FaultyS3(upstream)
    thread = threading.Thread(target=proxy.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield proxy
    finally:
        proxy.closing.set()
        proxy.shutdown()
        thread.join()
        proxy.server_close()
