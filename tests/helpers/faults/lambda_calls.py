"""A deployed function that tests answer for: its log, and what Lambda says to a call of it."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3

from tests.helpers.faults.s3 import Answer

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.helpers.faults.s3 import Exchange, Request

REQUEST_ID = "11111111-2222-3333-4444-555555555555"


class Log:
    """The log of a function."""

    def __init__(self, group: str) -> None:
        self._client: Any = boto3.client("logs")
        self._group = group
        self._streams: set[str] = set()
        self._client.create_log_group(logGroupName=group)

    def put(self, *messages: str, stream: str = "1", seconds_ago: float = 0) -> None:
        """Let a process of the function write lines."""
        where = {"logGroupName": self._group, "logStreamName": stream}
        if stream not in self._streams:
            self._client.create_log_stream(**where)
            self._streams.add(stream)
        at = time.time_ns() // 10**6 - round(seconds_ago * 1000)
        events = [{"timestamp": at, "message": message} for message in messages]
        self._client.put_log_events(**where, logEvents=events)

    def delete(self) -> None:
        """Leave nothing that could be read."""
        self._client.delete_log_group(logGroupName=self._group)


def record(message: str, level: str = "INFO", **fields: object) -> str:
    """Return a line as the service's logger writes it."""
    standard = {"level": level, "message": message, "timestamp": "2026-11-27 12:34:56,789+00:00"}
    return json.dumps(standard | fields)


def start(request_id: str = REQUEST_ID) -> str:
    """Return the line that Lambda writes before a call."""
    return f"START RequestId: {request_id} Version: $LATEST\n"


def end(request_id: str = REQUEST_ID) -> str:
    """Return the line that Lambda writes behind a call."""
    return f"END RequestId: {request_id}\n"


def reply(exchange: Exchange, payload: object, status: int = 200, error: str = "") -> None:
    """Answer a call as Lambda does.

    Args:
        exchange: the call.
        payload: the answer.
        status: 200 if there was a call, also if it failed.
        error: where the name of an error of Lambda belongs.
    """
    body = json.dumps(payload).encode()
    headers = [("Content-Length", str(len(body))), ("x-amzn-RequestId", REQUEST_ID)]
    if error:
        failed = "x-amz-function-error" if status == 200 else "x-amzn-errortype"
        headers.append((failed, error))
    exchange.answer(Answer(status, headers, body))


@dataclass
class Calls:
    """What stands in for Lambda when the function is called.

    Attributes:
        answer: what it does to a call.
        made: the events of the calls so far.
    """

    answer: Callable[[Exchange], None] = lambda exchange: reply(exchange, {})
    made: list[Any] = field(default_factory=list)

    def choose(self, request: Request) -> Callable[[Exchange], None] | None:
        """Take the calls, and let everything else pass."""
        if not request.path.endswith("/invocations"):
            return None
        self.made.append(json.loads(request.body))
        return self.answer
