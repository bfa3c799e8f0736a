"""The race: on few rows, with what every checkout has; and who is told to be exact."""

from __future__ import annotations

import json
import sys
from typing import Any

import boto3
import pytest
from botocore.config import Config

from benchmarks import odd_values
from benchmarks.odd_values import ODD, Verdict
from benchmarks.race import EXACT, INEXACT, columns, remarks, table
from benchmarks.racers import Contender, contenders
from benchmarks.sink import sink
from benchmarks.stage import orders_server
from tests.helpers.cases import all_but

ROWS = 1_000
# Reads by our own driver, and writes what Python's json makes of it: what many a script does.
NAIVE = """
import json, sys
from decimal import Decimal
from pg8000.native import Connection
from benchmarks.answering import answer

def plain(value):
    return float(value) if isinstance(value, Decimal) else str(value)

def work(table, id_column, file):
    connection = Connection("postgres", unix_sock=sys.argv[1], database="totesys")
    rows = connection.run(f"SELECT * FROM {table} ORDER BY 1")
    names = [column["name"] for column in connection.columns]
    with open(file, "w") as lines:
        for row in rows:
            print(json.dumps(dict(zip(names, row)), default=plain), file=lines)
    return len(rows)

answer(work)
"""


@pytest.fixture(scope="module")
def server():
    with orders_server(ROWS) as server:
        odd_values.create(server)
        yield server


@pytest.fixture(scope="module")
def outside():
    with sink() as variables:
        yield variables


@pytest.fixture(scope="module")
def field(outside):
    return contenders(None, outside)


@pytest.mark.parametrize("key", all_but(["ours", "bare"], ["ours", "bare", "sent", "psql", "copy"]))
def test_each_writes_all_rows_and_what_it_took_is_known(key, server, field):
    cost = field[key].lap(server, ROWS)
    assert cost.seconds > 0
    assert cost.peak_megabytes > 1


@pytest.mark.parametrize("key", all_but(["bare"], ["ours", "bare"]))
def test_we_write_every_odd_value_exactly(key, server, field):
    values = sum(len(each) + 1 for each in ODD.values())
    assert odd_values.judge(field[key], server) == Verdict(values, {}, {})


def test_psql_breaks_a_line_of_json_where_the_value_has_a_line_break(server, field):
    verdict = odd_values.judge(field["psql"], server)
    assert verdict.wrong == {"json": 1}
    assert verdict.failed == {}


def test_a_naive_script_is_found_out(server):
    socket = f"{server.host}/.s.PGSQL.{server.port}"
    naive = Contender("naive", lambda _: [sys.executable, "-c", NAIVE, socket])
    verdict = odd_values.judge(naive, server)
    assert verdict.wrong.keys() >= {"numeric", "numeric(10,2)", "double precision", "timestamp"}
    assert verdict.wrong["numeric(10,2)"] == 1  # 3.10
    assert not verdict.wrong.keys() & {"text", "bigint", "boolean", "uuid"}
    assert verdict.failed.keys() >= {"time"}  # 24:00
    assert verdict.wrong["time"] == len(ODD["time"]) + 1  # where it fails nothing is right


@pytest.mark.parametrize("checksum", ["when_supported", "when_required"])
@pytest.mark.parametrize("body", [b"", b"short", b"x" * 3_000_001])
def test_the_sink_takes_a_body_however_it_is_sent(outside, body, checksum, monkeypatch):
    for name, value in outside.items():
        monkeypatch.setenv(name, value)
    client = boto3.client(
        "s3",
        "eu-west-2",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(request_checksum_calculation=checksum, retries={"total_max_attempts": 1}),
    )
    for _ in range(2):  # the second one comes right behind the first on the same connection
        assert client.put_object(Bucket="bucket", Key="a/1.jsonl", Body=body)["ETag"]
    assert client.list_objects_v2(Bucket="bucket").get("KeyCount", 0) == 0
    with pytest.raises(client.exceptions.NoSuchKey):
        client.get_object(Bucket="bucket", Key="a/1.jsonl")


def racer(name, seconds, odd):
    figures = {"cpu_seconds": 1.0, "server_seconds": 0.5, "peak_megabytes": 99.6}
    return {"name": name, "seconds": seconds, **figures, "odd": odd}


FOUND: dict[str, Any] = {
    "rows": 1_000_000,
    "load": [0.1, 1.2],
    "racers": {
        "duckdb": racer("Duck\nDB", 2.0, {"values": 9, "wrong": {"numeric": 2}, "failed": {}}),
        "ours": racer("we", 3.0, {"values": 9, "wrong": {}, "failed": {}}),
        "copy": racer("plain", 1.0, None),
        "dlt": racer("dlt", 80.0, {"values": 9, "wrong": {"time": 3}, "failed": {"time": "E: x"}}),
    },
}


def test_the_table_says_how_fast_and_how_exact():
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table(FOUND)]
    assert lines[0][:3] == ["1,000,000 rows", "seconds", "times"]
    assert lines[2:] == [
        ["Duck DB", "2.00", "1.00", "1.00", "0.50", "100", "2 of 9 wrong"],
        ["we", "3.00", "1.50", "1.00", "0.50", "100", "exact"],
        ["plain", "1.00", "0.50", "1.00", "0.50", "100", "-"],
        ["dlt", "80.00", "40.00", "1.00", "0.50", "100", "3 of 9 wrong"],
    ]


def test_the_chart_tells_the_exact_from_the_others():
    assert columns(FOUND) == {EXACT: {"we": 3.0}, INEXACT: {"Duck\nDB": 2.0}}


def test_without_duckdb_there_is_nothing_to_compare_with():
    racers = {key: each for key, each in FOUND["racers"].items() if key != "duckdb"}
    assert "| nan |" in " ".join("\n".join(table(FOUND | {"racers": racers})).split())


@pytest.mark.parametrize(
    ("load", "is_fair"), [([0.1, 1.2], True), ([0.6, 1.2], False), ([0.1, 2.1], False)]
)
def test_a_race_on_a_busy_machine_is_none(load, is_fair):
    said = list(remarks(json.loads(json.dumps(FOUND)) | {"load": load}))
    assert said[0] == "dlt fails on time: E: x"
    assert ("WARNING" not in said[-1]) == is_fair
