"""How `make status` is read, by people and by machines."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from datetime import UTC, datetime
from typing import Any

import pytest
from botocore.exceptions import ClientError

from shared.bucket.bucket import Bucket
from shared.tables import Table
from tests.helpers.models.memory_s3 import MemoryS3
from tools.loads import LANDING, PLANNING, LoadStatus
from tools.stages import Function
from tools.standing import StageStatus, TableStatus, loads_standing, rows_of
from tools.status import as_json, duration, load_line, table_lines

PAYMENT = TableStatus(
    table="payment",
    watermark=12345,
    highest_id=12350,
    landed_at="2026-11-23T01:38:11+00:00",
    age_seconds=190,
    last_key="payment/12345-2026-11-23T01-38-11.jsonl",
    last_rows=35,
    rows_today=1234,
    held_back_rows=0,
    changes=7,
    proof_days_behind=3,
)
LOAD = LoadStatus("payment", "arn:x:prod-load:a", "2026-11-27T14:03:12+00:00", LANDING, 2000, 120)
STAGE = StageStatus(
    [PAYMENT, TableStatus("staff", watermark=0)], ["Source: it is away.", "And so."], [LOAD]
)


def test_people_read_a_table():
    assert table_lines(STAGE) == [
        "table    in source  watermark    age  today  held back  changes  proof late  rows  "
        "last batch",
        "payment     12,350     12,345  3 min  1,234          0        7         3 d    35"
        "  payment/12345-2026-11-23T01-38-11.jsonl",
        "staff            -          0      -      -          -        -           -     -  -",
    ]


def test_machines_read_every_figure_by_its_name():
    said = json.loads(as_json(STAGE))
    assert said["notes"] == STAGE.notes
    assert list(said["tables"]) == ["payment", "staff"]
    assert said["tables"]["payment"]["watermark"] == 12345
    assert said["tables"]["payment"]["last_key"] == PAYMENT.last_key
    assert said["tables"]["staff"]["highest_id"] is None


def test_a_load_that_is_under_way_is_read_by_people_and_machines():
    assert load_line(LOAD, "prod", "eu-west-2") == (
        "A load of payment is under way: 120 of 2,000 batches; it began at "
        "2026-11-27T14:03:12+00:00. To follow it: make load TABLE=payment STAGE=prod"
    )
    planning = replace(LOAD, phase=PLANNING, batches=None, done=0)
    said = load_line(planning, "prod", "eu-west-1")
    assert "under way: planning; " in said
    assert said.endswith(" STAGE=prod REGION=eu-west-1")
    assert json.loads(as_json(STAGE))["loads"] == [asdict(LOAD)]


def test_loads_that_can_not_be_listed_are_a_note_and_no_error(monkeypatch):
    denied = ClientError({"Error": {"Code": "StateMachineDoesNotExist"}}, "ListExecutions")

    def refuse(*_: object) -> None:
        raise denied

    monkeypatch.setattr("tools.loads.Aws.client", refuse)
    arn = "arn:aws:lambda:eu-west-2:1:function:totesys-ingestion-dev-ingest"
    function, notes = (
        Function("x", arn, "dev", "eu-west-2", 240, {}, datetime.now(UTC)),
        list[str](),
    )
    assert loads_standing(function, notes) == []
    [note] = notes
    assert note.startswith("Loads: they can't be listed: ")
    assert "StateMachineDoesNotExist" in note


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (200_000, "2 d")],
)
def test_times_are_short(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize("objects", [0, 1, 10, 1_000, 50_000])
@pytest.mark.parametrize("todays", [0, 1, 144])
@pytest.mark.parametrize("ids", [1, 7, 50_000])
def test_todays_rows_take_few_requests_however_many_objects_there_are(objects, todays, ids):
    """A year of ticks makes 50,000 objects of a table; the ids of each are so many."""
    s3: Any = MemoryS3()
    for number in range(1, objects + todays + 1):
        day = "2026-11-26" if number <= objects else "2026-11-27"
        s3.put(f"payment/{number * ids}-{day}T10-00-00.jsonl", b"", rows="2")
    s3.put("payment/latest.json", b"")
    last = (objects + todays) * ids
    assert rows_of(Table("payment"), "2026-11-27", last, Bucket(s3, "bucket")) == 2 * todays
    assert s3.requests["ListObjectsV2"] <= 20
