"""What `make load` makes of its words, and of what Step Functions and the log say of a load."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from types import SimpleNamespace
from typing import Any

import pytest
from botocore.exceptions import ClientError, EndpointConnectionError
from hypothesis import example, given
from hypothesis import strategies as st

from services.ingestion.plan import MOST_ITEMS, pack
from shared.bucket.planned import Planned
from shared.errors import EventError
from shared.tables import TABLES
from tests.helpers.oracle.pages import blocks, page, section
from tools import load, progress
from tools.loads import (
    ENDED,
    FINISHING,
    LANDING,
    PLANNING,
    Ended,
    Load,
    LoadStatus,
    StatesError,
    execution_name,
    machine_arn,
    table_of,
)
from tools.progress import LINE_SECONDS, Progress, follow
from tools.results import loaded
from tools.stages import Function

ARN = "arn:aws:states:eu-west-2:123456789012:execution:prod-load:payment-ana-2026-11-27T14-03-12"
BEGAN = datetime(2026, 11, 27, 14, 3, 12, tzinfo=UTC)
AGAIN = "make load TABLE=payment STAGE=prod"


class States:
    """Step Functions, with one execution that a test moves on."""

    def __init__(self, batches: int = 3, items: int = 3) -> None:
        self.execution: dict[str, Any] = {
            "status": "RUNNING",
            "startDate": BEGAN,
            "input": json.dumps({"table": "payment"}),
        }
        self.run: dict[str, Any] = {"status": "RUNNING", "itemCounts": {"succeeded": 0}}
        self.is_mapped = True
        self.asked: list[str] = []
        plan = {"batches": batches, "items": [{}] * items}
        entered = {"stateEnteredEventDetails": {"input": json.dumps(plan)}}
        before = [{"type": "ExecutionStarted"}] * 3
        self.pages = [{"events": before}, {"events": [{"type": "MapStateEntered"} | entered]}]

    def describe_execution(self, **_: str) -> dict[str, Any]:
        self.asked.append("execution")
        return self.execution

    def list_map_runs(self, **_: str) -> dict[str, Any]:
        self.asked.append("runs")
        return {"mapRuns": [{"mapRunArn": "a"}] if self.is_mapped else []}

    def describe_map_run(self, **_: str) -> dict[str, Any]:
        self.asked.append("run")
        return self.run

    def get_paginator(self, name: str) -> Any:
        self.asked.append(name)
        return SimpleNamespace(paginate=lambda **_: iter(self.pages))

    def end(self, status: str, **more: str) -> None:
        stopped = BEGAN + timedelta(seconds=90)
        self.execution |= {"status": status, "stopDate": stopped} | more


def test_a_load_is_planning_landing_finishing_and_ended():
    states = States()
    states.is_mapped = False
    found = Load(states, ARN)
    status, ended = found.look()
    assert (status.phase, status.batches, status.done, ended) == (PLANNING, None, 0, None)
    assert (status.table, status.started_at) == ("payment", "2026-11-27T14:03:12+00:00")
    states.is_mapped = True
    assert found.look()[0].phase == LANDING
    states.run["itemCounts"]["succeeded"] = 2
    assert (found.look()[0].batches, found.look()[0].done, found.batches) == (3, 2, 3)
    states.run = {"status": "SUCCEEDED", "itemCounts": {"succeeded": 3}}
    assert found.look()[0].phase == FINISHING
    states.end("SUCCEEDED", output='{"rows": 7}')
    status, ended = found.look()
    assert status.phase == ENDED
    assert ended == Ended("SUCCEEDED", 90, {"rows": 7})


def test_a_look_takes_two_requests_and_the_plan_is_read_once():
    states = States()
    found = Load(states, ARN)
    found.look()
    states.asked.clear()
    found.look()
    assert states.asked == ["execution", "run"]


@given(st.integers(0, 3 * MOST_ITEMS + 1))
def test_batches_are_counted_as_the_plan_has_packed_them(batches: int):
    items = pack("payment", [Planned(n, n + 1, has_landed=False) for n in range(batches)])
    states = States(batches, len(items))
    found = Load(states, ARN)
    found.look()
    expected = [0, *accumulate(each.up_to - each.above for each in items)]
    for done in {0, len(items) // 2, len(items) - 1, len(items)} - {-1}:
        states.run["itemCounts"]["succeeded"] = done
        assert found.look()[0].done == expected[done]


@pytest.mark.parametrize("text", ['"payment"', "{}", '{"table": 5}', "[]", "null"])
def test_an_input_that_somebody_made_up_is_of_no_table(text: str):
    assert table_of({"input": text}) is None


@given(st.sampled_from(TABLES), st.text(max_size=100))
@example("payment", "a" * 100)
def test_step_functions_takes_the_name_of_each_execution(table: str, caller: str):
    name = execution_name(table, caller, "2026-11-27T14-03-12")
    assert re.fullmatch(r"[0-9A-Za-z_-]{1,80}", name)
    assert name.startswith(f"{table}-")
    assert name.endswith("-2026-11-27T14-03-12")


def function(arn: str = "arn:aws-cn:lambda:cn-north-1:1:function:totesys-ingestion-dev-ingest"):
    return Function("x", arn, "dev", "cn-north-1", 240, {}, BEGAN)


def test_the_state_machine_is_beside_the_function():
    assert machine_arn(function()) == "arn:aws-cn:states:cn-north-1:1:stateMachine:dev-load"


# What is said.


@pytest.fixture
def said() -> list[str]:
    return []


@pytest.fixture
def heard(said: list[str]) -> Progress:
    return Progress(lambda line, _level: said.append(line.strip()))


def status(phase: str, done: int = 0) -> LoadStatus:
    return LoadStatus("payment", ARN, "2026-11-27T14:03:12+00:00", phase, 2000, done)


def record(message: str, level: str = "INFO", **fields: object) -> dict[str, Any]:
    standard = {"level": level, "message": message, "timestamp": "2026-11-27 14:05:00,000+0000"}
    return standard | fields


def landed(rows: int, table: str = "payment") -> dict[str, Any]:
    return record("Batches of a load landed", table=table, rows=rows)


def without_time(lines: list[str]) -> list[str]:
    return [re.sub(r"^[\d:]{8} ", "", line) for line in lines]


def test_batches_rows_a_second_and_the_time_left_are_said_from_time_to_time(
    heard: Progress, said: list[str]
):
    heard.show(status(PLANNING), 0)
    heard.show(status(PLANNING), 500)
    heard.show(status(LANDING, 1000), 1000)  # it was under way when it was looked at first
    heard.take("11111111", landed(250_000))
    heard.take("11111111", landed(999, table="staff"))
    heard.show(status(LANDING, 1010), 1000 + LINE_SECONDS - 1)
    heard.show(status(LANDING, 1010), 1000 + LINE_SECONDS + 20)
    heard.show(status(FINISHING, 2000), 2000)
    assert without_time(said) == [
        "planning: the batches are claimed, one after the other",
        "1,000 of 2,000 batches",
        "1,010 of 2,000 batches, 5,000 rows a second, 1 h 22 min left",
        "the workers are done; a last run lands what they left, and what is new",
    ]


def test_a_load_that_has_landed_all_says_nothing_is_left(heard: Progress, said: list[str]):
    heard.show(status(LANDING), 0)
    heard.show(status(LANDING, 2000), 100)
    assert without_time(said)[-1] == "2,000 of 2,000 batches, 0 s left"


@pytest.mark.parametrize(
    ("logged", "is_said"),
    [
        (record("Batches of a load claimed", table="payment", above=5), True),
        (record("A load waits for transactions that are open", "WARNING"), True),
        (record("The run failed", "ERROR"), True),
        (record("Table ingested", rows=5), False),
        (landed(5), False),
        (landed(5, table="staff"), False),
    ],
)
def test_of_the_log_is_said_what_somebody_should_see(heard, said, logged, is_said):
    heard.show(status(LANDING), 0)
    said.clear()
    heard.take("11111111", logged)
    assert [line.split()[0] for line in said] == ["11111111"] * is_said


class Unsteady:
    """A load that can't be asked for some time, then can, then can't; then it has ended."""

    def __init__(self, *failures: int) -> None:
        self.looks = [each for n in failures for each in (*[False] * n, True)]

    def look(self) -> tuple[LoadStatus, Ended | None]:
        if not self.looks.pop(0):
            raise EndpointConnectionError(endpoint_url="https://states.eu-west-2.amazonaws.com")
        is_last = not self.looks
        return status(ENDED if is_last else LANDING), Ended("SUCCEEDED", 1) if is_last else None


@pytest.fixture
def without_waiting(monkeypatch):
    monkeypatch.setattr(progress, "POLL_SECONDS", 0)
    monkeypatch.setattr(progress, "Log", lambda *_: SimpleNamespace(show=lambda: None))


def test_a_network_that_is_away_for_a_while_ends_nothing(without_waiting, said):
    unsteady: Any = Unsteady(*[progress.MOST_FAILURES - 1] * 2)
    assert follow(unsteady, function(), lambda line, _: said.append(line)).status == "SUCCEEDED"


def test_a_load_that_can_not_be_followed_any_more_goes_on(without_waiting, said):
    unsteady: Any = Unsteady(progress.MOST_FAILURES)
    with pytest.raises(StatesError, match=r"It goes on in AWS\. .*states:DescribeMapRun"):
        follow(unsteady, function(), lambda line, _: said.append(line))


# The command.


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["orders"], r"Unknown table: 'orders'. The tables are payment"),
        (["payment", "--workers", "0"], "workers must be a whole number from 1 to 1000"),
        (["payment", "--workers", "1001"], "workers must be a whole number from 1 to 1000"),
    ],
)
def test_what_the_plan_would_refuse_is_not_started(words, message, capsys):
    with pytest.raises(EventError, match=message):
        load.refuse_wrong(load.parse(words))
    assert load.main(words) == 2
    assert re.search(message, capsys.readouterr().err)


@pytest.mark.parametrize("words", [[], ["payment", "staff"], ["payment", "--workers", "many"]])
def test_wrong_words_end_with_status_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        load.main(words)
    assert ended.value.code == 2


def test_before_anything_was_started_ctrl_c_says_so():
    options = Namespace(table="payment", stage="prod", region="eu-west-2")
    assert "Nothing was started" in load.interrupted(None, options)
    text = load.interrupted(Load(None, ARN), Namespace(**(vars(options) | {"region": "eu-west-1"})))
    assert f"\n{AGAIN} REGION=eu-west-1\n" in text
    assert f"stop-execution --region eu-west-1 --execution-arn {ARN}\n" in text
    assert "Nothing is lost" in text


# How it ended.

RUN = {"rows": 12, "latest_row_id": 2012, "held_back_rows": 0, "changes": 3}


def output(**more: object) -> dict[str, Any]:
    run = {"tables": {"payment": RUN}, "rows": 12, "more": False}
    return {"table": "payment", "rows": 2000, "batches": 20, "failed": 0, "run": run} | more


def test_a_load_that_succeeded_says_what_it_landed_and_what_its_last_run_did():
    result = loaded(output(), 20)
    assert [line.split() for line in result.lines[1:]] == [
        ["payment", "20", "20", "2,000", "0", "12", "3", "2,012", "0"]
    ]
    assert result.notes == ["Landed: 2,000 rows in 20 batches."]
    with_more = {"tables": {"payment": RUN}, "rows": 12, "more": True}
    _, failed, more = loaded(output(failed=2, run=with_more), 20).notes
    assert failed.startswith("2 workers failed. What they left was landed by runs")
    assert more.startswith("A backlog is left")


def test_what_the_workers_did_not_count_is_said_without_rows():
    """Ticks have landed it meanwhile, or the last run, or a call that failed later."""
    result = loaded(output(), 25)
    assert result.lines[1].split()[:4] == ["payment", "25", "20", "2,000"]
    [note] = result.notes
    assert note.startswith(
        "Landed: 25 batches. Its workers landed 20 of them, with 2,000 rows; the"
    )


def test_the_page_shows_what_is_said():
    [shown, *_] = [
        each
        for each in blocks(section(page("docs/operating.md"), "Load a large table"), "")
        if each.startswith("Loading payment of prod")
    ]
    heard: list[str] = []
    following = Progress(lambda line, _level: heard.append(line.strip()))
    for phase in (PLANNING, LANDING, FINISHING):
        following.show(status(phase), 0)
    ended = loaded(output(rows=999_400_000, batches=19_988), 20_000).notes[0]
    planning, landing, finishing = without_time(heard)
    for line in (planning, landing.replace("2,000", "20,000"), finishing, ended):
        assert line in shown


def function_error(name: str, message: str) -> str:
    return json.dumps({"errorType": name, "errorMessage": message})


@pytest.mark.parametrize(
    ("ended", "message"),
    [
        (
            Ended("FAILED", 9, None, "LoadError", function_error("LoadError", "3 batches left.")),
            "The load failed: LoadError: 3 batches left.",
        ),
        (
            Ended("FAILED", 9, None, "Sandbox.Timedout", function_error("Sandbox.Timedout", "It")),
            "batchRows is too high for timeoutSeconds",
        ),
        (
            Ended("FAILED", 9, None, "States.DataLimitExceeded", "The output is too large."),
            "The load failed: States.DataLimitExceeded: The output is too large.",
        ),
        (Ended("ABORTED", 9), "somebody stopped it. Nothing is lost."),
    ],
)
def test_a_load_that_did_not_succeed_says_why_and_what_to_do(ended, message):
    text = load.load_failed(ended, AGAIN)
    assert message in text
    assert text.endswith(AGAIN)


def test_a_denied_look_is_an_error_of_ours(monkeypatch):
    denied = ClientError({"Error": {"Code": "AccessDeniedException"}}, "ListExecutions")

    def refuse(*_: object) -> None:
        raise denied

    monkeypatch.setattr(load, "find_function", lambda *_: function())
    monkeypatch.setattr("tools.loads.Aws.client", refuse)
    with pytest.raises(SystemExit, match=r"states:ListExecutions .*Nothing was started"):
        load.main(["payment"])
