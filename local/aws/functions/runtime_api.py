"""The Lambda Runtime API, which gives a runtime client its events and takes its answers.

The interface is AWS's own (https://docs.aws.amazon.com/lambda/latest/dg/runtimes-api.html).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from queue import Queue, ShutDown
from threading import Thread
from typing import TYPE_CHECKING, Literal, cast

if TYPE_CHECKING:
    from collections.abc import Mapping

Kind = Literal["taken", "response", "error", "init", "exit", "timeout", "memory"]


@dataclass(frozen=True)
class Call:
    """One event on its way to a handler that has `timeout` seconds for it."""

    request_id: str
    event: bytes
    function_arn: str
    timeout: float

    def headers(self) -> Mapping[str, str]:
        """Return what the runtime client makes the handler's context object from."""
        deadline = int((time.time() + self.timeout) * 1000)
        return {
            "Content-Type": "application/json",
            "Lambda-Runtime-Aws-Request-Id": self.request_id,
            "Lambda-Runtime-Deadline-Ms": str(deadline),
            "Lambda-Runtime-Invoked-Function-Arn": self.function_arn,
        }


@dataclass(frozen=True)
class Answer:
    """What became of a call.

    `taken`: the handler has it; `response`, `error`: what it returned or raised; `init`: it could
    not be imported; `exit`, `timeout`, `memory`: its process ended, did not answer in time, or took
    more memory than the function has.

    `request_id` is the call's, once an `Environment` has answered it.
    """

    kind: Kind
    body: bytes = b""
    at: float = field(default_factory=time.monotonic)
    request_id: str = ""


class RuntimeApi(ThreadingHTTPServer):
    """Hands `calls` to one runtime client and collects its `answers`."""

    daemon_threads = True

    def __init__(self) -> None:
        """Listen on a free port of the loopback interface."""
        super().__init__(("127.0.0.1", 0), _Handler)
        self.calls: Queue[Call] = Queue()
        self.answers: Queue[Answer] = Queue()
        Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def address(self) -> str:
        """Return host and port, in the form that AWS_LAMBDA_RUNTIME_API has."""
        return f"127.0.0.1:{self.server_port}"

    def close(self) -> None:
        """Stop listening; a runtime client that still waits for an event gets none."""
        self.calls.shutdown(immediate=True)
        self.shutdown()
        self.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer; several cost 40 ms of waiting for acknowledgements

    @property
    def _api(self) -> RuntimeApi:
        return cast("RuntimeApi", self.server)

    def do_GET(self) -> None:
        """Answer `/runtime/invocation/next` as soon as there is an event."""
        try:
            call = self._api.calls.get()
        except ShutDown:
            self.close_connection = True
            return
        self._api.answers.put(Answer("taken"))
        self._reply(200, call.event, call.headers())

    def do_POST(self) -> None:
        """Take what goes to `/invocation/<id>/response` or `.../error`, or to `/init/error`."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._api.answers.put(Answer(self._kind(), body))
        self._reply(202, b"", {})

    def _kind(self) -> Kind:
        if self.path.endswith("/init/error"):
            return "init"
        return "response" if self.path.endswith("/response") else "error"

    def _reply(self, status: int, body: bytes, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing: what matters is in the function's own log."""
