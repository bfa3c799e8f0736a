"""What is shown of a function's log: each line of the service once, and which call it is of."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from tests.helpers.faults.lambda_calls import REQUEST_ID, end, record, start
from tools import following
from tools.following import Follower

OTHER = "99999999-2222-3333-4444-555555555555"


def since(function, seconds):
    """Return the function as it was some seconds ago."""
    return replace(function, seen_at=function.seen_at - timedelta(seconds=seconds))


@pytest.fixture
def shown():
    """What has been shown."""
    return []


@pytest.fixture
def follower(function, shown):
    return Follower(function, lambda call, found: shown.append((call, found["message"])))


def test_each_line_is_shown_once_as_it_comes(follower, log, shown):
    log.put(start(), record("one"))
    follower.poll()
    assert shown == [("11111111", "one")]
    log.put(record("two"), record("two"))
    follower.poll()
    follower.poll()
    assert shown == [("11111111", "one"), ("11111111", "two"), ("11111111", "two")]


def test_what_was_logged_before_is_not_shown(follower, log, shown):
    log.put(start(), record("before"), end(), seconds_ago=5)
    follower.poll()
    assert shown == []


def test_only_what_the_services_logger_writes_is_shown(follower, log, shown):
    metric = '{"_aws": {}, "Heartbeat": [1.0]}'
    log.put(start(), metric, "[ERROR] SourceError: no", "{broken", '{"level": "x"}', "[1]", end())
    log.put("REPORT RequestId: 1\tDuration: 1.00 ms")
    follower.poll()
    assert shown == []


def test_calls_at_the_same_time_are_told_apart(follower, log, shown):
    for stream, *lines in (
        ("1", start(), record("one")),
        ("2", start(OTHER), record("two")),
        ("1", record("three")),
        ("3", record("four")),
        ("1", end(), record("five")),
    ):
        log.put(*lines, stream=stream)
        follower.poll()
    assert shown == [
        *(("11111111", "one"), ("99999999", "two"), ("11111111", "three")),
        *(("earlier", "four"), ("earlier", "five")),
    ]


def test_a_call_has_ended_once_its_last_line_was_shown(follower, log):
    log.put(start(), record("one"))
    log.put(start(OTHER), end(OTHER), stream="2")
    follower.poll()
    assert not follower.has_ended(REQUEST_ID)
    log.put(end())
    follower.poll()
    assert follower.has_ended(REQUEST_ID)


def test_a_line_that_comes_late_is_shown(function, log, shown, monkeypatch):
    monkeypatch.setattr(following, "LATE_MILLISECONDS", 3000)
    follower = Follower(since(function, 60), lambda _, found: shown.append(found["message"]))
    log.put(record("new"))
    follower.poll()
    log.put(record("late"), stream="2", seconds_ago=2)
    log.put(record("too late"), stream="3", seconds_ago=9)
    follower.poll()
    assert shown == ["new", "late"]


def test_it_remembers_only_what_it_may_find_again(function, log, shown, monkeypatch):
    monkeypatch.setattr(following, "LATE_MILLISECONDS", 0)
    follower = Follower(since(function, 60), lambda _, found: shown.append(found["message"]))
    for number in range(20):
        log.put(record(f"{number}"), seconds_ago=40 - 2 * number)
        follower.poll()
        assert len(follower._taken) == 1
    assert shown == [f"{number}" for number in range(20)]


def test_a_log_that_is_not_there_is_an_error(follower, log):
    log.delete()
    with pytest.raises(ClientError):
        follower.poll()
