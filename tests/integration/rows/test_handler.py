"""What the handler makes of its settings and of the time it has."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from services.ingestion.handler import lambda_handler
from tests.helpers.faults.stage_faults import NEW_ADDRESS
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content
from tests.helpers.runs.lambda_context import CONTEXT, running_out

pytestmark = pytest.mark.thorough

DESIGNS = {"tables": ["design"]}
REPLAY = {"replay": {"table": "design", "from_row_id": 0, "to_row_id": 5}}


def test_tables_without_changes_have_no_change_stream(deployed, bucket, monkeypatch):
    monkeypatch.setenv("WITHOUT_CHANGES", "staff,design")
    lambda_handler({"tables": ["design", "staff", "department"]}, CONTEXT)
    assert landed.ids(bucket, "design")
    streams = {key.split("/")[1] for key in content(bucket) if key.startswith("changes/")}
    assert streams == {"department"}


@pytest.mark.parametrize(("left", "lands"), [(61, True), (59, False)])
def test_a_quarter_of_the_time_is_left_for_what_was_begun(deployed, bucket, left, lands):
    answer = lambda_handler(DESIGNS, running_out(240, left))
    assert bool(landed.data_keys(bucket, "design")) == lands
    assert answer["more"] is not lands


@pytest.mark.parametrize(("left", "lands"), [(61, True), (59, False)])
def test_a_replay_leaves_a_quarter_too(deployed, bucket, left, lands):
    lambda_handler(DESIGNS, CONTEXT)
    done = lambda_handler(REPLAY, running_out(240, left))["replay"]
    assert bool(done["keys"]) == lands
    assert done["next_from_row_id"] == (None if lands else 0)


@pytest.mark.parametrize("seconds", [0, 7200])
def test_an_execution_may_ask_again_for_as_long_as_is_set(deployed, monkeypatch, seconds):
    monkeypatch.setenv("BACKLOG_SECONDS", str(seconds))
    before = datetime.now(UTC)
    answer = lambda_handler(DESIGNS, CONTEXT)
    oldest = datetime.fromisoformat(answer["again_if_started_after"])
    age, rounding = timedelta(seconds=seconds), timedelta(milliseconds=1)
    assert before - age - rounding <= oldest <= datetime.now(UTC) - age


def test_objects_hold_as_many_rows_as_are_set(deployed, bucket, monkeypatch):
    monkeypatch.setenv("BATCH_ROWS", "20")
    lambda_handler({"tables": ["address"]}, CONTEXT)
    asked = {"table": "address", "from_row_id": 0, "to_row_id": 30}
    replayed = lambda_handler({"replay": asked}, CONTEXT)["replay"]["keys"]
    for keys in (landed.data_keys(bucket, "address"), replayed):
        assert [len(landed.body(bucket, key).splitlines()) for key in keys] == [20, 10]


def test_writers_are_not_waited_for_if_the_setting_says_so(deployed, totesys, monkeypatch):
    monkeypatch.setenv("WRITER_WAIT_SECONDS", "0")
    totesys.connect().run(f"BEGIN; {NEW_ADDRESS}")
    totesys.connect().run(NEW_ADDRESS)

    def refuse(_seconds):
        raise AssertionError("It waits.")

    monkeypatch.setattr(time, "sleep", refuse)
    answer = lambda_handler({"tables": ["address"]}, CONTEXT)
    assert answer["tables"]["address"]["held_back_rows"] == 1
