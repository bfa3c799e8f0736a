"""The stand-in for CloudWatch Logs Insights, held against its documentation."""

from __future__ import annotations

import json

import pytest

from local.cloudwatch.insights import parse

SOURCE = "SOURCE 'IngestLogGroup'"


def line(second, group="IngestLogGroup", **fields):
    return second, group, json.dumps(fields)


LINES = [
    line(601, table="b", rows=2, key="b/2", level="INFO"),
    line(30, table="a", rows=1, key="a/1", level="INFO"),
    line(599, table="a", rows=0, key=None, level="WARNING"),
    line(1300, table="a", rows=5, key="a/5", level="ERROR"),
    line(1300, "ReconcileLogGroup", table="c", rows=9, level="ERROR"),
    (40, "IngestLogGroup", "START RequestId: 1"),
]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("fields table | limit 2", [{"table": "a"}, {"table": "a"}]),
        ("filter table = 'b' | fields rows, other", [{"rows": 2, "other": None}]),
        (
            "filter level in ['ERROR', 'WARNING'] | fields @timestamp | sort @timestamp desc",
            [{"@timestamp": 1300}, {"@timestamp": 599}],
        ),
        ("filter rows > 1 and table = 'a' | fields key", [{"key": "a/5"}]),
        (
            "stats sum(rows) as all, max(rows) as most by bin(10m)",
            [
                {"bin(10m)": 0, "all": 1, "most": 1},
                {"bin(10m)": 600, "all": 2, "most": 2},
                {"bin(10m)": 1200, "all": 5, "most": 5},
            ],
        ),
        (
            "filter rows > 0 | stats latest(key) as last by table | sort table desc",
            [{"table": "b", "last": "b/2"}, {"table": "a", "last": "a/5"}],
        ),
    ],
)
def test_what_a_query_finds(query, expected):
    assert parse(f"{SOURCE} | {query}").run(LINES) == expected


def test_the_latest_line_counts_even_without_a_value():
    """AWS says: the value of the log event that has the latest timestamp."""
    query = parse(f"{SOURCE} | stats latest(key) as last, max(bytes) as most by table")
    assert query.run(LINES[1:3]) == [{"table": "a", "last": None, "most": None}]


def test_several_log_groups_are_read():
    query = parse(f"{SOURCE} | SOURCE 'ReconcileLogGroup' | filter level = 'ERROR' | fields table")
    assert query.groups == ["IngestLogGroup", "ReconcileLogGroup"]
    assert query.run(LINES) == [{"table": "a"}, {"table": "c"}]


def test_the_fields_that_a_query_names_are_known():
    query = parse(
        f"{SOURCE} | filter message = 'x' and rows > 0 | stats sum(bytes) as size by table"
    )
    assert query.used == {"message", "rows", "bytes", "table"}
    assert query.columns == ["table", "size"]
    assert parse(f"{SOURCE} | stats sum(rows) as all by bin(10m)").used == {"rows"}


@pytest.mark.parametrize(
    "query",
    [
        "parse @message '*' as x",
        "filter rows < 3",
        "filter level like /E/",
        "stats avg(rows) as mean by table",
        "stats sum(rows) as all by bin(5m)",
        "stats sum(rows) as all by bin(10m), table",
        "fields concat(a, b)",
        "sort rows",
        "limit many",
        "SOURCE logGroups(namePrefix: ['a'])",
    ],
)
def test_what_is_not_simulated_is_refused(query):
    with pytest.raises(ValueError, match="is not simulated"):
        parse(f"{SOURCE} | {query}")
