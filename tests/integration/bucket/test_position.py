"""State that was lost, put back or spoilt: mended where it can be, and never taken for none."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import product

import pytest

from services.ingestion import Limits, get_latest_id
from shared.bucket import keys, position
from shared.errors import IngestionError
from shared.tables import Table
from tests.helpers.cases import one_in
from tests.helpers.faults.steps import operations
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content, restore
from tests.helpers.runs.changing import run_within
from tests.helpers.runs.holes import batch_key, claim_batches, land_batches
from tests.helpers.runs.place import Place

pytestmark = pytest.mark.thorough

INSERT = "INSERT INTO thing (name) SELECT 'new' FROM generate_series(1, 3)"
LATEST = "thing/latest.json"
THING = Table("thing")


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
    assert made["ListObjectsV2"] == 2 + 2  # and before it claims
    claimed.check()


def test_a_usual_run_lists_what_is_near_before_it_claims_and_warns_of_nothing(place, log_lines):
    assert operations(place.run)["ListObjectsV2"] == 2
    place.check()
    assert not [line for line in log_lines() if "latest.json" in line["message"]]


BATCHES, ROWS = 150, 100  # what a load has claimed
HOLES = range(9, BATCHES, 10)  # a tenth of it has not landed


@pytest.fixture
def load(place):
    """A load has claimed all rows, and landed nine tenths of it. latest.json is lost."""
    missing = BATCHES * ROWS - 12
    place.execute(f"INSERT INTO thing (name) SELECT 'new' FROM generate_series(1, {missing})")
    for key in [key for key in content(place.bucket) if "thing/" in key]:
        place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    claim_batches(place, THING, range(0, BATCHES * ROWS + 1, ROWS))
    land_batches(place, THING, ranges(set(range(BATCHES)) - set(HOLES)))
    return place.now()


def ranges(numbers):
    """Return where batches begin and end."""
    return [(number * ROWS, (number + 1) * ROWS) for number in numbers]


@pytest.mark.parametrize("pointer", one_in(3, [None, 5, BATCHES]))
def test_what_a_load_has_not_landed_is_not_skipped(load, pointer):
    """Also where latest.json lags, or a batch behind it was lost before it came to it."""
    if pointer:
        latest = {
            "latest_row_id": min(pointer, HOLES[0]) * ROWS,
            "timestamp": "2024-11-11T15-03-24",
            "rows_ingested": ROWS,
        }
        restore(load.bucket, {LATEST: (json.dumps(latest).encode(), {})})
    assert get_latest_id("thing", load.bucket.client, load.bucket.name) == HOLES[0] * ROWS
    run = load.run()["tables"]["thing"]
    assert (run["objects"], run["rows"]) == (len(HOLES), len(HOLES) * ROWS)
    load.check()


def test_after_an_adoption_what_others_have_landed_is_left_alone(load):
    steps: list[str] = []
    load.run(steps.append)
    puts = [step for step in steps if step.startswith("before PutObject") and ".jsonl" in step]
    assert len(puts) == len(HOLES)


LOSSES = product([HOLES[0] + 1, 0, 5, HOLES[0], BATCHES - 2], [False, True])


@pytest.mark.parametrize("loss", one_in(10, LOSSES), ids=str)
def test_a_claim_that_is_lost_is_named_and_nothing_lands_twice(load, loss):
    """latest.json says that all before it has landed, or is lost itself."""
    number, is_lost = loss
    if not is_lost:
        land_batches(load, THING, ranges(hole for hole in HOLES if hole < number))
        name = keys.parse_data_key(batch_key(THING, number * ROWS))
        latest = {"latest_row_id": name.row_id, "timestamp": name.timestamp, "rows_ingested": ROWS}
        restore(load.bucket, {LATEST: (json.dumps(latest).encode(), {})} if number else {})
    claim = keys.format_claim_key(THING, number * ROWS)
    body = load.bucket.get(claim).body
    load.bucket.client.delete_object(Bucket=load.bucket.name, Key=claim)
    for _ in range(2):
        with pytest.raises(IngestionError, match=rf"{claim} is missing, .* Restore") as failure:
            load.run()
        assert not failure.value.transient
    assert len(landed.ids(load.bucket, "thing")) == len(set(landed.ids(load.bucket, "thing")))
    restore(load.bucket, {claim: (body, {})})
    load.run()
    load.check()


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
