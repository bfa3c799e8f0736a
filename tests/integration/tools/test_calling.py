"""A call is sent once, whatever happens to it, and waited for as long as the function may take."""

from __future__ import annotations

import socket
from dataclasses import replace

import pytest
from urllib3.util import connection

from tests.helpers.faults.lambda_calls import REQUEST_ID, reply
from tests.helpers.faults.s3 import garbled, reset, silence
from tools import calling
from tools.calling import CallError, call, lambda_client

THROTTLED = {"Reason": "ConcurrentInvocationLimitExceeded", "message": "Rate Exceeded."}


def test_a_function_is_called_with_the_event_and_the_answer_is_returned(function, calls):
    calls.answer = lambda exchange: reply(exchange, {"rows": 1})
    answer = call(function, {"tables": ["staff"]})
    assert (answer.payload, answer.failed, answer.request_id) == ({"rows": 1}, False, REQUEST_ID)
    assert calls.made == [{"tables": ["staff"]}]


def test_a_failed_call_is_an_answer(function, calls):
    failure = {"errorType": "SourceError", "errorMessage": "It refused."}
    calls.answer = lambda exchange: reply(exchange, failure, error="Unhandled")
    answer = call(function, {})
    assert (answer.payload, answer.failed) == (failure, True)
    assert len(calls.made) == 1


def test_what_is_not_lambda_is_not_taken_for_it(function, calls):
    calls.answer = garbled
    with pytest.raises(CallError, match=r"Something else than Lambda answered: .*Please log in"):
        call(function, {})


def test_it_waits_longer_than_the_function_may_take(function):
    assert function.timeout_seconds == 240
    for seconds in (240, 900):
        config = lambda_client(replace(function, timeout_seconds=seconds)).meta.config
        assert config.read_timeout > seconds
        assert config.retries["total_max_attempts"] == 1


def test_an_answer_that_does_not_come_is_asked_for_once(function, calls, monkeypatch):
    monkeypatch.setattr(calling, "SPARE_SECONDS", 0.1)
    calls.answer = silence
    with pytest.raises(CallError, match=r"The connection was lost .* goes on in AWS") as raised:
        call(replace(function, timeout_seconds=0), {})
    assert "Read timeout" in str(raised.value)
    assert len(calls.made) == 1


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            lambda exchange: reply(exchange, {"message": "Oh"}, 500, "ServiceException"),
            "Lambda failed to call .* Whether the function ran is not known",
        ),
        (
            lambda exchange: reply(exchange, THROTTLED, 429, "TooManyRequestsException"),
            "No concurrency is left, .* Nothing has run. Call again in a minute",
        ),
        (
            lambda exchange: reply(exchange, {"Message": "No"}, 403, "AccessDeniedException"),
            "Lambda refused to call .* may they lambda:InvokeFunction",
        ),
        (reset, "The connection was lost before .* at most 240 s; .* Calling again is safe"),
    ],
    ids=["500", "throttled", "denied", "broken off"],
)
def test_nothing_is_sent_twice(function, calls, monkeypatch, mode, answer, said):
    monkeypatch.setenv("AWS_RETRY_MODE", mode)
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "5")
    calls.answer = answer
    with pytest.raises(CallError, match=said):
        call(function, {})
    assert len(calls.made) == 1


def test_where_lambda_can_not_be_reached_nothing_was_called(function, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", "http://127.0.0.1:9")
    with pytest.raises(CallError, match=r"eu-west-2 can't be reached: .* Nothing was called"):
        call(function, {})


def test_the_connection_is_kept_alive_before_a_gateway_forgets_it(function, calls, monkeypatch):
    made, found, create = [], {}, connection.create_connection

    def remembered(*args, **options):
        made.append(create(*args, **options))
        return made[-1]

    def look(exchange):
        for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_NODELAY"):
            found[name] = made[-1].getsockopt(socket.IPPROTO_TCP, getattr(socket, name))
        found["on"] = made[-1].getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        reply(exchange, {})

    monkeypatch.setattr(connection, "create_connection", remembered)
    calls.answer = look
    call(function, {})
    assert found["on"]
    assert found["TCP_NODELAY"]
    assert 0 < found["TCP_KEEPIDLE"] + found["TCP_KEEPINTVL"] < 350
