"""Rows that are replayed: those asked for, as they are now, behind all that was said of them."""

from __future__ import annotations

import json
import time
from contextlib import closing, suppress
from dataclasses import replace

import boto3
import pytest

from services.ingestion import Range, replay
from services.ingestion.handler import lambda_handler
from shared.bucket import keys
from shared.errors import EventError, LandingError
from shared.tables import Table
from tests.helpers.cases import one_in
from tests.helpers.faults.steps import on_every_step
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import check_equal, content
from tests.helpers.runs.changing import REPORT, bury, state, update
from tests.helpers.runs.lambda_context import CONTEXT
from tests.helpers.runs.place import Died, Place

pytestmark = pytest.mark.thorough

REPORTED = (REPORT, REPORT)
INSERT = "INSERT INTO thing (name) SELECT 'new' FROM generate_series(1, {})"


@pytest.fixture
def place(database, bucket):
    """Things 1 to 9 have landed."""
    place = Place(database, bucket, ["thing"], {}, with_changes=True)
    place.execute("CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)", INSERT.format(9))
    place.run()
    return place.now()


def again(place, above, up_to, batch_rows=50_000, seconds_left=lambda: 1.0):
    connection, client = place.database.connect(), place.bucket.client
    wanted = Range("thing", above, up_to)
    return replay(wanted, client, connection, place.bucket.name, batch_rows, seconds_left)


def ids(place, summary):
    lines = [line for key in summary["keys"] for line in landed.body(place.bucket, key).split("\n")]
    return [json.loads(line)["thing_id"] for line in lines if line]


def beside_changes(place):
    return {key: said for key, said in content(place.bucket).items() if "changes/" not in key}


def mark(place):
    return {key: said for key, said in state(place).items() if key != "sequence"}


def check(place):
    """Both streams are the table."""
    with closing(place.database.connect()) as connection:
        check_equal("thing", content(place.bucket), connection)


def test_rows_land_again_as_they_are_now_and_nothing_else_changes(place):
    place.execute("UPDATE thing SET name = 'newer' WHERE thing_id = 5", INSERT.format(2))
    before = mark(place)
    summary = again(place, 3, 6)
    [key] = summary["keys"]
    assert key == "changes/thing/0000000001.jsonl"
    names = [json.loads(line)["name"] for line in landed.body(place.bucket, key).splitlines()]
    assert (ids(place, summary), names) == ([4, 5, 6], ["new", "newer", "new"])
    assert place.bucket.metadata(key)["rows"] == "3"
    assert place.bucket.metadata(key)["base"] == before["done"]["snapshot"].split(":")[0]
    assert (mark(place), state(place)["sequence"]) == (before, 1)
    assert (summary["rows"], summary["next_from_row_id"]) == (3, None)
    assert summary["bytes"] == len(landed.body(place.bucket, key))
    assert beside_changes(place) == {
        key: said for key, said in place.before.items() if "changes/" not in key
    }
    place.run()
    place.check()


@pytest.mark.parametrize("rows", [1, 2, 4, 9, 10])
def test_a_long_range_lands_in_batches(place, rows):
    place.execute("DELETE FROM thing WHERE thing_id IN (4, 9)")
    summary = again(place, 0, 9, batch_rows=rows)
    assert ids(place, summary) == [1, 2, 3, 5, 6, 7, 8]
    assert summary["keys"] == sorted(filter(keys.is_change_key, content(place.bucket)))
    assert all(len(ids(place, {"keys": [key]})) <= rows for key in summary["keys"])


def test_a_replay_whose_time_is_up_says_where_to_go_on(place):
    times = iter([1.0, 1.0, 0.0])
    first = again(place, 1, 8, batch_rows=2, seconds_left=lambda: next(times))
    assert (ids(place, first), first["next_from_row_id"]) == ([2, 3, 4, 5], 5)
    rest = again(place, first["next_from_row_id"], 8)
    assert (ids(place, rest), rest["next_from_row_id"]) == ([6, 7, 8], None)


def test_a_replay_knows_what_has_landed_without_latest_json(place):
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key="thing/latest.json")
    assert ids(place, again(place, 7, 500)) == [8, 9]


def test_rows_that_have_not_landed_are_not_landed_again(place):
    place.execute(INSERT.format(3))
    summary = again(place, 7, 500)
    assert (ids(place, summary), summary["to_row_id"]) == ([8, 9], 9)
    assert again(place, 9, 500)["keys"] == []
    place.run()
    place.check()


def test_what_somebody_has_claimed_is_left_to_them(place):
    place.execute(INSERT.format(3))
    place.die_after_claiming()
    before = beside_changes(place)
    assert ids(place, again(place, 8, 12)) == [9]
    assert beside_changes(place) == before


WITHOUT = {
    "no scan yet": ("TRUNCATE thing", "it has no change stream yet"),
    "another table": (
        "DROP TABLE thing; CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)",
        "the table was created again",
    ),
    "a view": (
        "ALTER TABLE thing RENAME TO things; CREATE VIEW thing AS SELECT * FROM things",
        "its rows have no xmin",
    ),
}


@pytest.mark.parametrize("why", WITHOUT)
def test_where_it_can_put_nothing_it_says_what_to_do(place, why):
    statement, because = WITHOUT[why]
    place.execute(*statement.split(";"))
    if why == "no scan yet":
        for key in [key for key in content(place.bucket) if key.startswith("changes/")]:
            place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    before = content(place.bucket)
    with pytest.raises(EventError, match=f"{because}.*make ingest TABLES=thing"):
        again(place, 0, 9)
    assert content(place.bucket) == before


def test_rows_that_are_gone_are_none_of_its_matter(place):
    place.execute("DELETE FROM thing WHERE thing_id = 5")
    bury(place)
    assert ids(place, again(place, 3, 6)) == [4, 6]
    check(place)


def run_and_bury(place):
    place.execute(update(4), "DELETE FROM thing WHERE thing_id = 5", *REPORTED)
    place.run()
    bury(place)


@pytest.mark.parametrize("number", one_in(13, range(1, 26)))
def test_whatever_happens_meanwhile_no_row_is_raised(place, number):
    """Runs and tombstones take the next number at every step of a replay."""
    place.execute("DELETE FROM thing WHERE thing_id = 7", update(4), *REPORTED)
    steps = 0

    def step(name):
        nonlocal steps
        steps += name.startswith("before")
        if steps == number and name.startswith("before"):
            run_and_bury(place)

    client, connection = boto3.client("s3"), place.session()
    on_every_step(client, connection, step)
    with closing(connection):
        replay(Range("thing", 0, 9), client, connection, place.bucket.name, 3, lambda: 1.0)
    place.run()
    bury(place)
    check(place)


@pytest.mark.parametrize("number", one_in(13, range(1, 26)))
def test_wherever_it_dies_the_next_run_goes_on(place, number):
    place.execute(update(4), *REPORTED)
    steps = 0

    def step(name):
        nonlocal steps
        steps += name.startswith("before")
        if steps == number:
            raise Died

    client, connection = boto3.client("s3"), place.session()
    on_every_step(client, connection, step)
    with suppress(Died), closing(connection):
        replay(Range("thing", 0, 9), client, connection, place.bucket.name, 3, lambda: 1.0)
    place.run()
    check(place)
    place.execute(update(4), *REPORTED)
    place.run()
    check(place)


def test_a_range_without_rows_has_no_object(place):
    place.execute("DELETE FROM thing WHERE thing_id BETWEEN 4 AND 6")
    summary = again(place, 3, 6)
    assert (summary["keys"], summary["rows"], summary["next_from_row_id"]) == ([], 0, None)


def test_who_asks_twice_gets_them_twice(place):
    first, second = again(place, 0, 9), again(place, 0, 9)
    assert ids(place, first) == ids(place, second) == list(range(1, 10))
    assert first["keys"] != second["keys"]


def test_it_goes_on_where_latest_json_of_the_stream_is_lost(place):
    place.execute(update(4), *REPORTED)
    place.run()
    lost = keys.format_change_latest_key(Table("thing"))
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=lost)
    assert again(place, 0, 9)["keys"] == ["changes/thing/0000000002.jsonl"]
    place.run()
    check(place)


def test_its_failures_are_those_of_a_run(place):
    place.execute("ALTER TABLE thing RENAME TO things")
    with pytest.raises(EventError, match="Nothing can be put into the change stream of 'thing'"):
        again(place, 0, 9)
    gone = replace(place, bucket=replace(place.bucket, name="not-there-at-all"))
    with pytest.raises(LandingError, match="NoSuchBucket"):
        again(gone, 0, 9)


@pytest.fixture
def landed_totesys(deployed, totesys):
    """A Totesys all of which has landed, by the handler."""
    lambda_handler({}, CONTEXT)
    return totesys


def test_the_event_of_the_handler(landed_totesys, bucket, log_lines):
    landed_totesys.connect().run("UPDATE payment SET payment_date = 'soon' WHERE payment_id = 7")
    event = {"replay": {"table": "payment", "from_row_id": 0, "to_row_id": 100}}
    answer = lambda_handler(event, CONTEXT)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["more"] is False
    assert answer["again_if_started_after"].startswith(time.strftime("%Y-", time.gmtime()))
    [key] = answer["replay"]["keys"]
    found = [json.loads(line)["payment_id"] for line in landed.body(bucket, key).splitlines()]
    assert found == [row_id for row_id in landed.ids(bucket, "payment") if row_id <= 100]
    assert 7 in found
    said = [line for line in log_lines() if line["message"] == "Table replayed"]
    assert [(line["table"], line["rows"]) for line in said] == [("payment", len(found))]
    [broken] = [line for line in log_lines() if line["level"] == "ERROR"]
    assert (broken["message"], broken["first_ids"]) == ("A column breaks its contract", [7])


def test_an_event_that_asks_for_nonsense_is_refused_and_lands_nothing(landed_totesys, bucket):
    before = content(bucket)
    replayed = {"table": "payment", "from_row_id": 5, "to_row_id": 5}
    with pytest.raises(EventError, match="There is no id above 5 up to 5"):
        lambda_handler({"replay": replayed}, CONTEXT)
    assert content(bucket) == before


def test_a_table_that_shall_have_no_change_stream_is_refused(landed_totesys, bucket, monkeypatch):
    monkeypatch.setenv("WITHOUT_CHANGES", "payment")
    before = content(bucket)
    event = {"replay": {"table": "payment", "from_row_id": 0, "to_row_id": 100}}
    with pytest.raises(EventError, match=r"'payment' has no change stream.*`withoutChanges`"):
        lambda_handler(event, CONTEXT)
    assert content(bucket) == before
