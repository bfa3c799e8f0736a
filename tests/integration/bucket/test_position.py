"""State that was lost, put back or spoilt: mended where it can be, and never taken for none."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from services.ingestion import Limits, get_latest_id
from shared.bucket import keys, position
from shared.errors import IngestionError
from shared.tables import Table
from tests.helpers.faults.steps import operations
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content, restore
from tests.helpers.runs.changing import run_within
from tests.helpers.runs.place import Place

pytestmark = pytest.mark.thorough

INSERT = "INSERT INTO thing (name) SELECT 'new' FROM generate_series(1, 3)"
LATEST = "thing/latest.json"


@pytest.fixture
def place(database, bucket):
    """Three batches of three rows have landed, and there are three new rows."""
    connection = database.connect()
    connection.run("CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)")
    place = Place(database, bucket, ["thing"], {}, batch_rows=3)
    for _ in range(3):
        connection.run(INSERT)
    place.run()
    connection.run(INSERT)
    return replace(place.now(), batch_rows=50_000)


@pytest.fixture
def claimed(place):
    """The same, where the rows that were new are claimed, and others are new."""
    place.die_after_claiming()
    place.execute(INSERT)
    return place.now()


def lose(place):
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=LATEST)


def put_back(batch):
    """Return what restores latest.json as it was after a batch."""

    def change(place):
        name = keys.parse_data_key(landed.data_keys(place.bucket, "thing")[batch - 1])
        latest = {"latest_row_id": name.row_id, "timestamp": name.timestamp, "rows_ingested": 3}
        restore(place.bucket, {LATEST: (json.dumps(latest).encode(), {})})

    return change


CHANGES = {"lost": lose, "of one batch ago": put_back(2), "of two batches ago": put_back(1)}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("situation", ["place", "claimed"])
def test_latest_json_is_healed_with_a_warning(situation, change, request, log_lines):
    place = request.getfixturevalue(situation)
    change(place)
    spoilt = content(place.bucket)
    assert get_latest_id("thing", place.bucket.client, place.bucket.name) == 9
    assert content(place.bucket) == spoilt
    place.run()
    place.check()
    warnings = [line for line in log_lines() if "latest.json lagged behind" in line["message"]]
    assert len(warnings) == 2
    for warning in warnings:
        assert warning["level"] == "WARNING"
        assert warning["table"] == "thing"
        assert warning["latest_row_id"] < warning["landed_row_id"] == 9


def test_latest_json_is_mended_as_it_was_if_nothing_lands(place):
    """All new rows are held back, so that it says again what it said."""
    put_back(1)(place)
    place.execute("DELETE FROM thing WHERE thing_id > 9")
    writer = place.database.connect()
    writer.run(f"BEGIN; {INSERT}")
    place.execute(INSERT)
    limits = Limits(writer_wait_seconds=0, without_changes=place.tables)
    assert run_within(place, limits)["tables"]["thing"]["held_back_rows"] == 3
    assert content(place.bucket) == place.before


def test_a_very_old_latest_json_is_healed_by_the_keys(claimed, monkeypatch):
    """A walk of thousands of steps would outlast the function, and the next one would, too."""
    put_back(1)(claimed)
    monkeypatch.setattr(position, "LONG_WALK", 1)
    made = operations(claimed.run)
    assert made["ListObjectsV2"] == 1
    claimed.check()


def test_a_usual_run_lists_nothing_and_warns_of_nothing(place, log_lines):
    assert operations(place.run)["ListObjectsV2"] == 0
    place.check()
    assert not [line for line in log_lines() if "latest.json" in line["message"]]


@pytest.mark.parametrize("last", [11, pytest.param(1101, marks=pytest.mark.long)])
def test_the_highest_key_is_found_among_many(bucket, last):
    """Keys are listed by the page and in the order of text, in which 999 is the last."""
    for number in range(1, last + 1):
        bucket.create(keys.format_data_key(Table("thing"), number, "2024-11-11T15-03-24"), b"")
    assert get_latest_id("thing", bucket.client, bucket.name) == last


FOREIGN = {
    "thing/": b"",
    "thing/README.md": b"What is in here?",
    "thing/latest.json.bak": b"{}",
    "thing/99-2024-11-11T15-03-24.jsonl.gz": b"",
    "thing/99-2024-11-11.jsonl": b"",
    "thing/backup/99-2024-11-11T15-03-24.jsonl": b"",
    "thing_old/99-2024-11-11T15-03-24.jsonl": b"",
    "claims/thing/README.md": b"",
    "latest.json": b"",
}


@pytest.mark.parametrize("is_lost", [False, True])
def test_foreign_objects_do_no_harm(claimed, is_lost):
    if is_lost:
        lose(claimed)
    restore(claimed.bucket, {key: (body, {}) for key, body in FOREIGN.items()})
    claimed.run()
    claimed.check(FOREIGN)


SPOILT_LATEST = [
    b"",
    b"{",
    b"null",
    b"[]",
    b"\xff",
    b'{"latest_row_id": 9}',
    b'{"latest_row_id": null, "timestamp": "", "rows_ingested": 0}',
    b'{"latest_row_id": "9", "timestamp": "", "rows_ingested": 0}',
    b'{"latest_row_id": 9.0, "timestamp": "", "rows_ingested": 0}',
    b'{"latest_row_id": true, "timestamp": "", "rows_ingested": 0}',
    b'{"latest_row_id": -1, "timestamp": "", "rows_ingested": 0}',
]
SPOILT_CLAIM = [
    b"",
    b"{",
    b"null",
    b"\xff",
    b"{}",
    b'{"key": 9}',
    b'{"key": "thing/12.jsonl"}',
    b'{"key": "thing/9-2024-11-11T15-03-24.jsonl"}',
    b'{"key": "other/12-2024-11-11T15-03-24.jsonl"}',
    b'{"key": "thing/latest.json"}',
]


@pytest.mark.parametrize(
    ("key", "bodies"), [(LATEST, SPOILT_LATEST), ("claims/thing/9.json", SPOILT_CLAIM)]
)
def test_a_spoilt_file_is_no_empty_bucket(claimed, key, bodies):
    for body in bodies:
        restore(claimed.bucket, {key: (body, {})})
        spoilt = content(claimed.bucket)
        with pytest.raises(IngestionError, match=r"StateError: .* Restore") as failure:
            claimed.run()
        assert f"{key} is not" in str(failure.value)
        assert not failure.value.transient
        assert content(claimed.bucket) == spoilt
    restore(claimed.bucket, {key: claimed.before[key]})
    claimed.run()
    claimed.check()


def test_a_spoilt_latest_json_may_be_deleted(claimed):
    restore(claimed.bucket, {LATEST: (b"{", {})})
    with pytest.raises(IngestionError, match="or delete it"):
        claimed.run()
    lose(claimed)
    claimed.run()
    claimed.check()
