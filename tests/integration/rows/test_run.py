"""Whole runs over Totesys, through `ingest`."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime
from decimal import Decimal
from itertools import count
from types import SimpleNamespace

import pytest

from local import totesys as totesys_database
from services.ingestion import Limits, ingest
from services.ingestion import summary as telling
from shared.errors import IngestionError
from shared.tables import TABLES
from tests.helpers.oracle import landed
from tests.helpers.oracle.contracts import contract_of, lands_as_timestamp

SOME_TABLES = ("payment", "staff", "department", "address")


def run(totesys, bucket, tables=TABLES, **limits):
    return ingest(tables, bucket.client, totesys.connect(), bucket.name, Limits(**limits))


def source_ids(totesys, table):
    found = totesys.connect().run(f'SELECT {table}_id FROM "{table}" ORDER BY 1')
    return [row_id for [row_id] in found]


def requests(bucket) -> Counter[str]:
    """Count the requests made to S3 from now on."""
    made: Counter[str] = Counter()

    def count(model, **_):
        made[model.name] += 1

    bucket.client.meta.events.register("before-call.s3", count)
    return made


def test_every_row_of_every_table_lands_as_the_database_says(totesys, bucket):
    summary = run(totesys, bucket)
    connection = totesys.connect()
    for table in TABLES:
        timestamps = [c for c, rules in contract_of(table).items() if lands_as_timestamp(rules)]
        expected = [
            json.loads(text, parse_float=Decimal)
            for [text] in connection.run(
                f'SELECT row_to_json(t)::text FROM "{table}" AS t ORDER BY {table}_id'
            )
        ]
        rows = landed.rows(bucket, table)
        assert [list(row) for row in rows] == [list(row) for row in expected]
        for row in expected:
            for column in timestamps:
                if row[column] is not None:
                    moment = datetime.fromisoformat(row[column])
                    row[column] = moment.isoformat(timespec="microseconds")
        assert rows == expected
        assert summary["tables"][table]["rows"] == len(rows)
    assert not summary["more"]


def test_a_second_run_lands_what_is_new_and_touches_nothing_else(totesys, bucket):
    run(totesys, bucket)
    before = {table: landed.data_keys(bucket, table) for table in TABLES}
    totesys_database.add_events(totesys.connect(), 20)
    summary = run(totesys, bucket)
    assert summary["rows"] == 60
    for table in TABLES:
        assert landed.ids(bucket, table) == source_ids(totesys, table)
        assert set(before[table]) <= set(landed.data_keys(bucket, table))
    assert summary["tables"]["staff"]["rows"] == 0


def test_an_idle_run_asks_twice_per_table_and_once_for_all_and_writes_nothing(totesys, bucket):
    run(totesys, bucket)
    made = requests(bucket)
    summary = run(totesys, bucket)
    assert summary["rows"] == 0
    # latest.json, how far the changes are, and when the tables were compared
    assert made == {"GetObject": 2 * len(TABLES) + 1}


def test_some_tables(totesys, bucket):
    summary = run(totesys, bucket, ["transaction", "address"])
    assert list(summary["tables"]) == ["transaction", "address"]
    assert landed.ids(bucket, "address") == source_ids(totesys, "address")
    assert landed.data_keys(bucket, "payment") == []


def test_a_backlog_lands_in_batches_table_by_table_in_turn(totesys, bucket):
    summary = run(totesys, bucket, SOME_TABLES, batch_rows=100)
    assert not summary["more"]
    for table in SOME_TABLES:
        assert landed.ids(bucket, table) == source_ids(totesys, table)
    assert summary["tables"]["payment"]["objects"] == 3
    assert summary["tables"]["payment"]["key"] == landed.data_keys(bucket, "payment")[-1]
    assert landed.latest(bucket, "staff")["latest_row_id"] == 20


def test_a_run_without_time_says_that_there_is_more(totesys, bucket):
    # Enough for a round over the tables, which looks three times at the clock for each, and a bit.
    times = iter([1.0] * (3 * len(SOME_TABLES) + 3) + [0.0] * 100)
    summary = run(totesys, bucket, SOME_TABLES, batch_rows=100, seconds_left=lambda: next(times))
    assert summary["more"]
    assert summary["rows"] < sum(len(source_ids(totesys, table)) for table in SOME_TABLES)
    # No table starves for another one's backlog.
    assert all(summary["tables"][table]["rows"] for table in SOME_TABLES)
    assert not run(totesys, bucket, SOME_TABLES)["more"]
    for table in SOME_TABLES:
        assert landed.ids(bucket, table) == source_ids(totesys, table)


def test_the_log_has_a_line_per_table_with_the_details(totesys, bucket, log_lines):
    run(totesys, bucket, SOME_TABLES)
    by_table = {line["table"]: line for line in log_lines() if line["message"] == "Table ingested"}
    assert list(by_table) == list(SOME_TABLES)
    [key] = landed.data_keys(bucket, "address")
    line = by_table["address"]
    assert {
        "level": "INFO",
        "rows": 30,
        "from_row_id": 0,
        "latest_row_id": 30,
        "key": key,
    }.items() <= (line.items())
    assert line["bytes"] == len(landed.body(bucket, key).encode())
    assert line["duration_ms"] >= 0


def test_a_table_that_fails_stops_no_other_and_is_named(totesys, bucket, log_lines):
    totesys.connect().run("ALTER TABLE department RENAME TO departments")
    with pytest.raises(IngestionError, match="There is no table 'department'") as failure:
        run(totesys, bucket, SOME_TABLES)
    assert list(failure.value.failures) == ["department"]
    for table in set(SOME_TABLES) - {"department"}:
        assert landed.ids(bucket, table) == source_ids(totesys, table)
    errors = [line for line in log_lines() if line["level"] == "ERROR"]
    assert [line["table"] for line in errors] == ["department"]


def test_a_source_that_was_set_back_is_reported(totesys, bucket, log_lines):
    run(totesys, bucket, SOME_TABLES)
    totesys.connect().run("DELETE FROM payment WHERE payment_id > 290")
    run(totesys, bucket, SOME_TABLES)
    [warning] = [line for line in log_lines() if line["level"] == "WARNING"]
    assert "highest id is below its watermark" in warning["message"]
    assert warning["table"] == "payment"


@pytest.fixture
def clock(monkeypatch):
    """A clock for the log of progress, on which each look takes four seconds."""
    seconds = count(0, 4)
    monkeypatch.setattr(telling, "time", SimpleNamespace(monotonic=lambda: float(next(seconds))))


def test_a_backlog_says_every_ten_seconds_how_it_goes_on(totesys, bucket, log_lines, clock):
    run(totesys, bucket, ["payment"], batch_rows=20)
    highest = source_ids(totesys, "payment")[-1]
    said = [line for line in log_lines() if line["message"] == "A backlog is landing"]
    # One look when it begins, one after each batch: every third says something.
    assert [line["rows"] for line in said] == [60, 120, 180, 240, 300]
    for line in said:
        position = source_ids(totesys, "payment")[line["rows"] - 1]
        assert (line["level"], line["table"]) == ("INFO", "payment")
        assert line["latest_row_id"] == position
        assert line["rows_left"] == highest - position
        rate = line["rows"] / (line["rows"] / 20 * 4)
        assert line["rows_per_second"] == round(rate)
        assert line["seconds_left"] == round(line["rows_left"] / rate)


@pytest.mark.parametrize(
    ("rows_left", "is_said"), [(5 * 3600 - 5, False), (5 * 3600, False), (5 * 3600 + 5, True)]
)
def test_a_backlog_of_more_than_an_hour_says_what_is_faster(log_lines, clock, rows_left, is_said):
    """Five rows a second land: 60 in the 12 seconds until the first line."""
    progress = telling.Progress("payment", 60 + rows_left)
    for rows in (20, 40, 60):
        progress.log(rows, rows)
    [line] = [line for line in log_lines() if line["message"] == "A backlog is landing"]
    assert line["seconds_left"] == rows_left / 5
    assert ("make load TABLE=payment" in line.get("faster", "")) is is_said


def test_a_backlog_whose_end_is_not_known_says_how_fast_it_is(totesys, bucket, log_lines, clock):
    totesys.connect().run("ALTER TABLE department RENAME TO departments")
    with pytest.raises(IngestionError, match="There is no table 'department'"):
        run(totesys, bucket, ["payment", "department"], batch_rows=50)
    first, *_ = [line for line in log_lines() if line["message"] == "A backlog is landing"]
    assert first["rows_per_second"]
    assert "rows_left" not in first


def test_a_table_without_a_backlog_says_nothing_of_it(totesys, bucket, log_lines, clock):
    for _ in range(2):
        run(totesys, bucket, SOME_TABLES)
        totesys_database.add_events(totesys.connect(), 3)
    assert "A backlog is landing" not in {line["message"] for line in log_lines()}
