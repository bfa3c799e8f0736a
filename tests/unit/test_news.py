"""What `make local` prints of a tick."""

from __future__ import annotations

import json

import pytest

from local.news import news


def emf(name, value, **dimensions):
    return json.dumps(
        {
            "_aws": {
                "CloudWatchMetrics": [
                    {
                        "Namespace": "Totesys",
                        "Dimensions": [list(dimensions)],
                        "Metrics": [{"Name": name}],
                    }
                ]
            },
            name: [value],
            **dimensions,
        }
    )


def call(*lines):
    return ["START RequestId: 1", *lines, "END RequestId: 1", "REPORT RequestId: 1"]


ERROR = '{"level": "ERROR", "message": "A column breaks its contract"}'
INFO = '{"level": "INFO", "message": "Run ended"}'
LANDED = [
    emf("RowsIngested", 2, table="payment", stage="local"),
    emf("RowsIngested", 1200, table="staff", stage="local"),
]
CHANGED = emf("ChangesLanded", 2, table="payment", stage="local")
HELD_BACK = emf("HeldBackRows", 1, table="address", stage="local")


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([], ""),
        (call(INFO, emf("RowsIngested", 0, table="payment"), emf("HeldBackRows", 0)), ""),
        (call(*LANDED), "payment 2, staff 1,200 new"),
        (
            call(CHANGED, HELD_BACK, ERROR, INFO, ERROR),
            "payment 2 changed; address 1 held back; 2 ERROR lines",
        ),
        (call(ERROR), "1 ERROR line"),
        (call(*LANDED, CHANGED) + call(*LANDED), "payment 4, staff 2,400 new; payment 2 changed"),
        (call(HELD_BACK) + call(*LANDED), "payment 2, staff 1,200 new"),
        (call(HELD_BACK) + call(HELD_BACK), "address 1 held back"),
        (call(emf("HeldBackRows", 5, stage="local")), ""),  # of all tables together
        (call("Runtime exited with error: signal: killed"), ""),
    ],
)
def test_what_was_new_changed_held_back_and_wrong(lines, expected):
    assert "; ".join(news(lines)) == expected
