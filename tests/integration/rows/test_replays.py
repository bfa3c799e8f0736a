"""Rows that are landed again: those asked for, as they are now, and nothing else is touched."""

from __future__ import annotations

import json
import time
from dataclasses import replace

import pytest

from services.ingestion import Range, replay
from services.ingestion.handler import lambda_handler
from shared.errors import EventError, LandingError, SourceError
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content
from tests.helpers.runs.lambda_context import CONTEXT
from tests.helpers.runs.place import Place

pytestmark = pytest.mark.thorough

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


def beside_replays(place):
    return {key: said for key, said in content(place.bucket).items() if "replays/" not in key}


def test_rows_land_again_as_they_are_now_and_nothing_else_changes(place):
    place.execute("UPDATE thing SET name = 'newer' WHERE thing_id = 5", INSERT.format(2))
    summary = again(place, 3, 6)
    [key] = summary["keys"]
    assert key.startswith("replays/thing/2")
    assert key.endswith("-3-6.jsonl")
    names = [json.loads(line)["name"] for line in landed.body(place.bucket, key).splitlines()]
    assert (ids(place, summary), names) == ([4, 5, 6], ["new", "newer", "new"])
    assert place.bucket.metadata(key) == {"rows": "3"}
    assert (summary["rows"], summary["next_from_row_id"]) == (3, None)
    assert summary["bytes"] == len(landed.body(place.bucket, key))
    assert beside_replays(place) == place.before
    place.run()
    place.check(foreign=[key])


@pytest.mark.parametrize("rows", [1, 2, 4, 9, 10])
def test_a_long_range_lands_in_batches_that_say_what_they_hold(place, rows):
    place.execute("DELETE FROM thing WHERE thing_id IN (4, 9)")
    summary = again(place, 0, 9, batch_rows=rows)
    assert ids(place, summary) == [1, 2, 3, 5, 6, 7, 8]
    ranges = [key.removesuffix(".jsonl").split("-")[-2:] for key in summary["keys"]]
    for key, (above, up_to) in zip(summary["keys"], ranges, strict=True):
        held = ids(place, {"keys": [key]})
        assert len(held) <= rows
        assert int(above) < held[0] <= held[-1] <= int(up_to)
    assert [above for above, _ in ranges[1:]] == [up_to for _, up_to in ranges[:-1]]


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
    place.check(foreign=summary["keys"])


def test_what_somebody_has_claimed_is_left_to_them(place):
    place.execute(INSERT.format(3))
    place.die_after_claiming()
    before = content(place.bucket)
    assert ids(place, again(place, 8, 12)) == [9]
    assert beside_replays(place) == before


def test_of_a_table_that_never_landed_nothing_is(database, bucket):
    place = Place(database, bucket, ["thing"], {})
    place.execute(
        "CREATE TABLE thing (thing_id serial PRIMARY KEY)", "INSERT INTO thing DEFAULT VALUES"
    )
    assert again(place, 0, 500)["rows"] == 0
    assert content(bucket) == {}


def test_a_range_without_rows_has_no_object(place):
    place.execute("DELETE FROM thing WHERE thing_id BETWEEN 4 AND 6")
    summary = again(place, 3, 6)
    assert (summary["keys"], summary["rows"], summary["next_from_row_id"]) == ([], 0, None)


def test_rows_with_ids_below_1_can_be_had_this_way_only(place):
    place.execute("INSERT INTO thing VALUES (-7), (0)")
    assert ids(place, again(place, -8, 0)) == [-7, 0]


def test_who_asks_twice_gets_them_twice_and_never_half(place, monkeypatch):
    monkeypatch.setattr("shared.bucket.keys.timestamp_now", lambda: "2026-11-23T01-02-03")
    first = again(place, 0, 9)
    before = content(place.bucket)
    assert again(place, 0, 9)["keys"] == first["keys"]  # in the same second
    assert content(place.bucket) == before


def test_its_failures_are_those_of_a_run(place):
    place.execute("ALTER TABLE thing RENAME TO things")
    with pytest.raises(SourceError, match="There is no table 'thing'"):
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
