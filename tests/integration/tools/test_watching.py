"""While a call runs its log is shown, and nothing that the log does ends the call."""

from __future__ import annotations

import json
import os
import signal
import threading
import time

import pytest

from tests.helpers.faults.lambda_calls import end, record, reply, start
from tools import invoke, watching
from tools.calling import CallError
from tools.following import Follower
from tools.watching import watch

SECONDS = 30  # nothing takes so long


@pytest.fixture
def said():
    """What was said so far: lines and their levels."""
    return []


@pytest.fixture
def say(said):
    return lambda line, level: said.append((line, level))


def test_lines_are_said_before_the_answer_comes_and_the_last_ones_behind_it(
    function, calls, log, said, monkeypatch
):
    monkeypatch.setattr(watching, "LAST_POLLS", 1000)
    is_said = threading.Event()

    def say(line, level):
        said.append((line, level))
        is_said.set()

    def answer(exchange):
        log.put(start(), record("A backlog is landing", table="payment", rows=5))
        assert is_said.wait(SECONDS)
        reply(exchange, {"rows": 7})
        log.put(record("It failed", "ERROR", table="staff"), end())

    calls.answer = answer
    assert watch(function, {}, say).payload == {"rows": 7}
    assert said == [
        ("  11111111 12:34:56 INFO  A backlog is landing: table=payment rows=5", "INFO"),
        ("  11111111 12:34:56 ERROR It failed: table=staff", "ERROR"),
    ]
    assert len(calls.made) == 1


def test_an_answer_is_waited_for_over_many_looks_into_the_log(function, calls, say, monkeypatch):
    looked, enough = [], threading.Event()
    poll = Follower.poll

    def counting(self):
        looked.append(1)
        if len(looked) == 20:
            enough.set()
        poll(self)

    def answer(exchange):
        assert enough.wait(SECONDS)
        reply(exchange, {"rows": 7})

    monkeypatch.setattr(Follower, "poll", counting)
    calls.answer = answer
    assert watch(function, {}, say).payload == {"rows": 7}
    assert len(calls.made) == 1


def test_a_log_that_can_not_be_read_is_said_once_and_the_call_goes_on(function, calls, log, said):
    is_said = threading.Event()

    def say(line, level):
        said.append((line, level))
        is_said.set()

    def answer(exchange):
        assert is_said.wait(SECONDS)
        reply(exchange, {"rows": 7})

    log.delete()
    calls.answer = answer
    assert watch(function, {}, say).payload == {"rows": 7}
    [(line, level)] = said
    assert "The log of totesys-ingestion-test-ingest can't be read: " in line
    assert line.endswith("The call goes on without it. Reading it takes logs:FilterLogEvents.")
    assert level == "WARNING"


def test_last_lines_that_do_not_come_are_not_waited_for_for_ever(function, calls, say):
    assert watch(function, {}, say).payload == {}


def test_a_call_that_lambda_refuses_is_an_error(function, calls, say):
    calls.answer = lambda exchange: reply(exchange, {"message": "Oh"}, 500, "ServiceException")
    with pytest.raises(CallError, match="Lambda failed to call"):
        watch(function, {}, say)


WORDS = ["ingest", "--stage", "test"]


@pytest.fixture
def ctrl_c():
    """Interrupts this process, also where it was started to ignore that: by a shell's `&`."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield lambda *_: os.kill(os.getpid(), signal.SIGINT)
    signal.signal(signal.SIGINT, before)


# Where it comes while a connection is being made, that one is closed when it is forgotten.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_ctrl_c_ends_the_watching_and_says_that_the_call_goes_on(calls, capsys, ctrl_c):
    def answer(exchange):
        ctrl_c()
        exchange.proxy.closing.wait()

    calls.answer = answer
    assert invoke.main(WORDS) == 130
    assert capsys.readouterr().err == (
        "\nStopped watching. The call goes on in AWS, for at most 240 s. "
        "Its log: npx sls logs -f ingest --stage test --region eu-west-2\n"
    )


def test_ctrl_c_behind_the_answer_leaves_out_the_last_lines_only(
    calls, capsys, monkeypatch, ctrl_c
):
    monkeypatch.setattr(time, "sleep", ctrl_c)
    answer = {"more": False, "rows": 7, "tables": {}}
    calls.answer = lambda exchange: reply(exchange, answer)
    assert invoke.main(WORDS) == 0
    assert "Landed: 7 new rows" in capsys.readouterr().out


def test_ctrl_c_before_the_call_says_that_nothing_was_called(calls, capsys, monkeypatch, ctrl_c):
    monkeypatch.setattr(invoke, "find_function", ctrl_c)
    assert invoke.main(WORDS) == 130
    assert capsys.readouterr().err == "\nStopped. Nothing was called.\n"
    assert calls.made == []


def test_a_stage_that_is_not_there_is_an_error_that_says_which_are(log):
    with pytest.raises(SystemExit, match=r"no function .*-prod-ingest\. Deployed there: test\."):
        invoke.main(["ingest"])
    with pytest.raises(SystemExit, match=r"no function .*-test-reconcile\. No stage is deployed"):
        invoke.main(["reconcile", "--stage", "test"])


def test_machines_get_the_answer_of_a_failed_call_too(calls, capsys):
    failure = {"errorType": "SourceError", "errorMessage": "It refused. Grant it."}
    calls.answer = lambda exchange: reply(exchange, failure, error="Unhandled")
    with pytest.raises(SystemExit, match=r"failed: SourceError: It refused\. Grant it\."):
        invoke.main([*WORDS, "--json"])
    assert json.loads(capsys.readouterr().out) == failure


def test_a_replay_whose_time_is_up_says_the_command_that_continues_it(calls, capsys):
    done = {"table": "payment", "rows": 3, "bytes": 9, "from_row_id": 0, "to_row_id": 500}
    done |= {"next_from_row_id": 300, "contract_violations": 0, "keys": ["changes/payment/x"]}
    calls.answer = lambda exchange: reply(exchange, {"more": False, "replay": done})
    assert invoke.main(["replay", "--stage", "test", "payment", "0", "500"]) == 0
    assert calls.made == [{"replay": {"table": "payment", "from_row_id": 0, "to_row_id": 500}}]
    said = capsys.readouterr().out
    assert "\ns3://a-bucket/changes/payment/x\n" in said
    assert said.endswith("\n\nmake replay TABLE=payment FROM=300 TO=500 STAGE=test\n")
