"""What `make local` prints of a tick."""

from __future__ import annotations

import json

import pytest

from local.news import news


def ingested(table, **figures):
    line = {"level": "INFO", "message": "Table ingested", "table": table}
    return json.dumps(line | {"rows": 0, "changes": 0, "held_back_rows": 0} | figures)


def call(*lines):
    return ["START RequestId: 1", *lines, "END RequestId: 1", "REPORT RequestId: 1"]


ERROR = '{"level": "ERROR", "message": "A column breaks its contract"}'
INFO = '{"level": "INFO", "message": "Run ended"}'
LANDED = [
    ingested("payment", rows=2),
    ingested("staff", rows=1200),
]
CHANGED = ingested("payment", changes=2)
HELD_BACK = ingested("address", held_back_rows=1)


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ""),
        (call(INFO, ingested("payment")), ""),
        (call(*LANDED), "payment 2, staff 1,200 new"),
        (
            call(CHANGED, HELD_BACK, ERROR, INFO, ERROR),
            "payment 2 changed; address 1 held back; 2 ERROR lines",
        ),
        (call(ERROR), "1 ERROR line"),
        (call(*LANDED, CHANGED) + call(*LANDED), "payment 4, staff 2,400 new; payment 2 changed"),
        (call(HELD_BACK) + call(*LANDED), "payment 2, staff 1,200 new"),
        (call(HELD_BACK) + call(HELD_BACK), "address 1 held back"),
        (call("Runtime exited with error: signal: killed"), ""),
    ],
)
def test_what_was_new_changed_held_back_and_wrong(lines, expected):
    assert "; ".join(news(lines)) == expected
