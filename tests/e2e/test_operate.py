"""What people do with a deployed stage: see how it stands, and land rows again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from local import totesys
from shared.tables import TABLES
from tests.helpers.runs.commands import status

if TYPE_CHECKING:
    from local.stage import LocalStage

pytestmark = pytest.mark.e2e

REPLAY = {"replay": {"table": "payment", "from_row_id": 0, "to_row_id": 500}}


def test_the_status_of_the_stage_is_what_has_landed(stage: LocalStage):
    assert stage.run().status == "SUCCEEDED"
    totesys.add_events(stage.database, 2)
    said = json.loads(status(stage, "--json"))
    assert said["notes"] == said["loads"] == []
    assert list(said["tables"]) == list(TABLES)
    for table, each in said["tables"].items():
        ids = [row[f"{table}_id"] for row in stage.landed.lines(table)]
        assert each["watermark"] == max(ids)
        assert each["rows_today"] <= len(ids)
        assert each["last_key"] == stage.landed.keys(table)[-1]
        assert each["held_back_rows"] == 0
    payment = said["tables"]["payment"]
    [[highest]] = stage.database.run("SELECT max(payment_id) FROM payment")
    assert payment["highest_id"] == highest > payment["watermark"]
    text = status(stage)
    assert "s3://local-ingestion-bucket" in text
    assert f"{payment['watermark']:,}" in text
    assert payment["last_key"] in text


def test_rows_land_again_by_a_call_or_by_the_state_machine(stage: LocalStage):
    assert stage.run().status == "SUCCEEDED"
    before = {key: stage.landed.read(key) for key in stage.landed.all_keys()}
    called = stage.invoke(REPLAY)
    assert not called.failed
    execution = stage.run(REPLAY)
    assert execution.status == "SUCCEEDED"
    landed = [row["payment_id"] for row in stage.landed.lines("payment")]
    for answer in (called.payload, execution.output):
        [key] = answer["replay"]["keys"]
        rows = [json.loads(line) for line in stage.landed.read(key).splitlines()]
        assert [row["payment_id"] for row in rows] == [each for each in landed if each <= 500]
    pointers = [key for key in before if key.startswith("changes/payment/latest")]
    assert {key: stage.landed.read(key) for key in before if key not in pointers} == {
        key: said for key, said in before.items() if key not in pointers
    }
    new = set(stage.landed.all_keys()) - set(before)
    assert all(key.startswith("changes/payment/") for key in new)


def test_a_replay_of_nonsense_fails_and_says_what_to_ask(stage: LocalStage):
    answer = stage.invoke({"replay": {"table": "payment"}})
    assert answer.failed
    assert answer.payload["errorType"] == "EventError"
    assert "from_row_id" in answer.payload["errorMessage"]
