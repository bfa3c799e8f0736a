"""One call of a deployed function, waited for as long as the function may take.

A client that gives up early and calls again would run the function twice at the same time, and
never see an answer. So there are no retries, and nothing on the way may forget the connection.
"""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError

from shared.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.stages import Function

CONNECT_SECONDS: Final = 10
# A cold start does not count towards the function's timeout, and an answer has to travel.
SPARE_SECONDS: Final = 60

# A NAT gateway forgets a connection that is silent for 350 seconds, and a reconciliation may be
# silent for 900. botocore's `tcp_keepalive` leaves it to the operating system when the first probe
# is sent, which on Linux is after two hours (https://github.com/boto/botocore/issues/2916).
KEEP_ALIVE_SECONDS: Final = 60
_PROBES: Final = 5
_IDLE: Final = "TCP_KEEPIDLE" if hasattr(socket, "TCP_KEEPIDLE") else "TCP_KEEPALIVE"  # macOS
_KEEP_ALIVE: Final = [
    (socket.IPPROTO_TCP, getattr(socket, _IDLE), KEEP_ALIVE_SECONDS),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, KEEP_ALIVE_SECONDS),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES),
]

_AGAIN: Final = "Calling again is safe, also while that call runs."


class CallError(PipelineError):
    """A call has no answer; the message says what is known of it, and what to do."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a function answered.

    Attributes:
        payload: its result, or what Lambda says of the error if the call failed.
        failed: whether the function raised an error, or Lambda ended it.
        request_id: of the call; the function's log has it, too.
        seconds: how long it took.
    """

    payload: Any
    failed: bool
    request_id: str
    seconds: float


def call(function: Function, event: object) -> Answer:
    """Call a function once, and wait for its answer.

    Raises:
        CallError: Lambda did not take the call, or the answer was lost.
    """
    started = time.monotonic()
    try:
        answer = lambda_client(function).invoke(
            FunctionName=function.name, Payload=json.dumps(event)
        )
        body = answer["Payload"].read()
    except ClientError as error:
        raise CallError(_refused(function, error)) from error
    except HTTPClientError as error:
        raise CallError(
            f"The connection was lost before {function.name} answered: {error}. A call that has "
            f"begun goes on in AWS, for at most {function.timeout_seconds} s; the function's log "
            f"says how it ends. {_AGAIN}"
        ) from error
    except BotoCoreError as error:
        raise CallError(
            f"Lambda in {function.region} can't be reached: {error}. Nothing was called. "
            "Check the network, the region and the credentials."
        ) from error
    return _parsed(answer, body, time.monotonic() - started)


def lambda_client(function: Function) -> Any:
    """Return a client of Lambda that sends a call of the function once, and waits for its end."""
    client = boto3.client(
        "lambda",
        region_name=function.region,
        config=Config(
            connect_timeout=CONNECT_SECONDS,
            read_timeout=function.timeout_seconds + SPARE_SECONDS,
            retries={"total_max_attempts": 1},
            tcp_keepalive=True,
        ),
    )
    # The list that each new connection gets; botocore has no other way to add to it.
    client._endpoint.http_session._socket_options.extend(_KEEP_ALIVE)
    return client


def _parsed(answer: Mapping[str, Any], body: bytes, seconds: float) -> Answer:
    try:
        request_id = answer["ResponseMetadata"]["RequestId"]
        return Answer(json.loads(body), "FunctionError" in answer, request_id, seconds)
    except (KeyError, ValueError) as error:
        raise CallError(
            f"Something else than Lambda answered: {body[:200].decode(errors='replace')!r}. "
            "Is there a proxy that asks you to log in?"
        ) from error


def _refused(function: Function, error: ClientError) -> str:
    details = error.response
    if details["Error"]["Code"] == "TooManyRequestsException":
        return (
            f"Lambda did not call {function.name}: {error}. No concurrency is left, in the account "
            "or for this function. Nothing has run. Call again in a minute."
        )
    if details["ResponseMetadata"]["HTTPStatusCode"] >= 500:
        return (
            f"Lambda failed to call {function.name}: {error}. Whether the function ran is not "
            f"known; its log says it. {_AGAIN}"
        )
    return (
        f"Lambda refused to call {function.name}: {error}. Nothing has run. Are the credentials "
        "those of the stage's account, and may they lambda:InvokeFunction?"
    )
