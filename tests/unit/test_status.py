"""How `make status` is read, by people and by machines."""

from __future__ import annotations

import json

import pytest

from tools.standing import StageStatus, TableStatus
from tools.status import as_json, duration, table_lines

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
STAGE = StageStatus(
    [PAYMENT, TableStatus("staff", watermark=0)], ["Source: it is away.", "And so."]
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


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0, "0 s"), (59, "59 s"), (60, "1 min"), (7199, "1 h"), (200_000, "2 d")],
)
def test_times_are_short(seconds, text):
    assert duration(seconds) == text
