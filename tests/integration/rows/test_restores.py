"""Objects that were lost land again: whoever reads the streams, or has read them, has the table."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import closing, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NoReturn

import boto3
import pytest
from botocore.response import StreamingBody

from services.ingestion import LostObject, restore
from services.ingestion.handler import lambda_handler
from services.reconciliation import reconcile
from shared.bucket import keys, read_new
from shared.errors import EventError, StateError
from shared.tables import Table
from tests.helpers.cases import one_in
from tests.helpers.faults.steps import on_every_step
from tests.helpers.models.scripted import s3_error
from tests.helpers.oracle.exactly_once import check_equal, content
from tests.helpers.runs.changing import SCHEMA, TABLE, changing, update, write
from tests.helpers.runs.lambda_context import CONTEXT
from tests.helpers.runs.place import Died

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.thorough

CHANGES = ("changes/thing/0000000001.jsonl", "changes/thing/0000000002.jsonl")
EXPLICIT = "INSERT INTO thing VALUES (4, 'explicit')"


@pytest.fixture
def place(database, bucket):
    """Things 1 to 3 and 5 to 7 have landed in two objects; 2 and then 4 and 6 changed since."""
    place = changing(database, bucket, SCHEMA)
    write(place, "SELECT nextval('thing_thing_id_seq')", INSERT)
    place.run()
    for changes in ([update(2)], [EXPLICIT, update(6)]):
        write(place, *changes)
        place.run()
    assert [key for key in CHANGES if key in content(bucket)] == [*CHANGES]
    return place.now()


INSERT = "INSERT INTO thing (name) SELECT 'new' FROM generate_series(1, 3)"


def batch_of(place, row_id):
    [key] = place.bucket.keys(f"thing/{row_id}-")
    return key


def keep_versions(place):
    place.bucket.client.put_bucket_versioning(
        Bucket=place.bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )


def lose(place, key):
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)


def put_back(place, key, step=None, **options):
    client, connection = boto3.client("s3"), place.session()
    if step:
        on_every_step(client, connection, step)
    with closing(connection):
        return restore(LostObject(TABLE, key), client, connection, place.bucket.name, **options)


def compare(place):
    with closing(place.session()) as connection:
        return reconcile(TABLE, place.bucket.client, connection, place.bucket.name)


def check(place):
    with closing(place.database.connect()) as connection:
        check_equal(TABLE, content(place.bucket), connection)


class Copy:
    """What a consumer has."""

    def __init__(self):
        self.names, self.checkpoint = {}, None

    def follow(self, place):
        client = place.bucket.client
        new = read_new(TABLE, self.checkpoint, client, place.bucket.name)
        for row in new.upserts.to_dict("records"):
            self.names[row["thing_id"]] = row["name"]
        for row_id in new.deleted:
            self.names.pop(row_id, None)
        self.checkpoint = new.checkpoint


def in_source(place):
    with closing(place.database.connect()) as connection:
        return dict(connection.run("SELECT thing_id, name FROM thing"))


def check_copies(place, *copies):
    place.run()
    compare(place)
    for copy in [*copies, Copy()]:
        copy.follow(place)
        assert copy.names == in_source(place)
    check(place)


EACH = ["thing/3", "thing/7", *CHANGES, "claims/thing/0.json"]


def key_of(place, name):
    return batch_of(place, name.removeprefix("thing/")) if name.startswith("thing/") else name


@pytest.mark.parametrize("name", one_in(3, EACH))
def test_the_version_that_landed_is_put_back_byte_for_byte(place, name):
    key = key_of(place, name)
    keep_versions(place)
    place.bucket.client.put_object(Bucket=place.bucket.name, Key=key, Body=b"altered\n")
    # The version from before versions were kept is the oldest.
    lose(place, key)
    done = put_back(place, key)
    assert (done["restored_from"], done["tombstones"]) == ("version", 0)
    assert content(place.bucket) == place.before
    place.run()
    check(place)


@pytest.mark.parametrize("name", one_in(3, EACH))
def test_what_is_there_is_not_touched(place, name):
    key = key_of(place, name)
    with pytest.raises(EventError, match=f"{key} is there.*aws s3api delete-object"):
        put_back(place, key)
    assert content(place.bucket) == place.before


@pytest.mark.parametrize("name", one_in(4, EACH[:-1]))
@pytest.mark.parametrize("behind", [0, 1], ids=["new consumers", "consumers that read it"])
def test_without_a_version_both_streams_are_the_table_again(place, name, behind):
    """Rows are updated, deleted and inserted again, before it is lost and while it is."""
    key, copies = key_of(place, name), [Copy()] if behind else []
    for copy in copies:
        copy.follow(place)
    write(place, update(1), update(5), "DELETE FROM thing WHERE thing_id IN (2, 4)")
    lose(place, key)
    write(place, update(6), "DELETE FROM thing WHERE thing_id IN (3)")
    done = put_back(place, key)
    assert done["restored_from"] == "source"
    check_copies(place, *copies)
    write(place, update(1), "INSERT INTO thing VALUES (3, 'again')")
    check_copies(place, *copies)
    assert compare(place).faults == []


def test_an_id_that_a_comparison_can_not_know_has_a_tombstone_too(place):
    """Thing 4 was in the lost object only, and is gone."""
    copy = Copy()
    copy.follow(place)
    lose(place, CHANGES[1])
    write(place, "DELETE FROM thing WHERE thing_id = 4")
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key="inventory/thing/latest.json")
    compare(place)
    assert put_back(place, CHANGES[1])["tombstones"] == 1
    check_copies(place, copy)


def test_where_ids_are_sparse_no_tombstones_are_put(place, monkeypatch, log_lines):
    monkeypatch.setattr("services.ingestion.restores._MOST_ABSENT", 1)
    write(place, "DELETE FROM thing WHERE thing_id IN (5, 6)")
    key = batch_of(place, 7)
    lose(place, key)
    assert put_back(place, key)["tombstones"] == 0
    assert [line for line in log_lines() if line["message"].startswith("Too many ids")]


def test_without_a_change_stream_a_batch_is_restored_all_the_same(place):
    key = batch_of(place, 7)
    lose(place, key)
    assert put_back(place, key, with_changes=False) == {
        "table": "thing",
        "key": key,
        "restored_from": "source",
        "rows": 4,
        "tombstones": 0,
    }
    lose(place, CHANGES[0])
    with pytest.raises(EventError, match="was never there"):
        put_back(place, CHANGES[0], with_changes=False)


NEVER_THERE = {
    "thing/6-2024-11-11T15-03-24.jsonl": (StateError, "No claim names thing/6-"),
    "changes/thing/0000000003.jsonl": (EventError, "the stream ends at number 2"),
    "claims/thing/2.json": (EventError, "No version of claims/thing/2.json is left"),
}


@pytest.mark.parametrize("key", NEVER_THERE)
def test_what_was_never_there_is_not_made(place, key):
    error, said = NEVER_THERE[key]
    with pytest.raises(error, match=said):
        put_back(place, key)
    assert content(place.bucket) == place.before


def test_two_lost_changes_one_after_the_other(place):
    copy = Copy()
    for key in CHANGES:
        lose(place, key)
        put_back(place, key)
        place.run()
    check_copies(place, copy)


def test_the_next_object_waits_for_a_run(place):
    lose(place, CHANGES[0])
    lose(place, CHANGES[1])
    put_back(place, CHANGES[0])
    with pytest.raises(EventError, match="make ingest TABLES=thing"):
        put_back(place, CHANGES[1])


def at(number, action):
    count = 0

    def step(name):
        nonlocal count
        count += name.startswith("before")
        if count == number and name.startswith("before"):
            action()

    return step


def die():
    raise Died


@pytest.mark.parametrize("number", one_in(25, range(2, 27)))
@pytest.mark.parametrize("name", ["thing/7", CHANGES[0]])
def test_wherever_it_dies_it_can_be_asked_again(place, name, number):
    key, copy = key_of(place, name), Copy()
    copy.follow(place)
    write(place, update(2), "DELETE FROM thing WHERE thing_id IN (5, 4)")
    lose(place, key)
    with suppress(Died):
        put_back(place, key, at(number, die))
    place.run()
    with suppress(EventError):  # it is there
        put_back(place, key)
    check_copies(place, copy)


@pytest.mark.parametrize("number", one_in(25, range(2, 27)))
@pytest.mark.parametrize("name", ["thing/7", CHANGES[0]])
def test_runs_and_writers_may_be_at_work(place, name, number):
    key, copy = key_of(place, name), Copy()
    copy.follow(place)
    write(place, update(2), "DELETE FROM thing WHERE thing_id IN (5, 4)")
    lose(place, key)

    def meanwhile():
        write(place, update(7), update(2), "INSERT INTO thing VALUES (5, 'again')")
        place.run()

    put_back(place, key, at(number, meanwhile))
    check_copies(place, copy)


def test_a_run_that_is_at_work_does_not_save_its_mark_over_it(place):
    """A scan that began before an object was lost says that all versions were delivered."""
    lose(place, CHANGES[0])
    write(place, update(6))
    state = keys.format_change_latest_key(Table(TABLE))
    restored: list[object] = []

    def step(name):
        if name.startswith("before PutObject") and name.endswith(state) and not restored:
            restored.append(put_back(place, CHANGES[0]))

    place.run(step)
    assert restored
    check_copies(place)


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({"table": "payment"}, 'the event must be {"restore"'),
        ({"table": "pay", "key": "pay/1-2024-11-11T15-03-24.jsonl"}, "Unknown table: 'pay'"),
        ({"table": "payment", "key": "payment/latest.json"}, "is not the key of an object of"),
        ({"table": "payment", "key": "address/1-2024-11-11T15-03-24.jsonl"}, "is not the key"),
        ({"table": "payment", "key": "changes/address/0000000001.jsonl"}, "is not the key"),
        ({"table": "payment", "key": 5}, "is not the key"),
    ],
)
def test_nonsense_is_refused(deployed, asked, says):
    with pytest.raises(EventError, match=says):
        lambda_handler({"restore": asked}, CONTEXT)


def test_the_event_of_the_handler(deployed, totesys, bucket):
    lambda_handler({}, CONTEXT)
    [key] = [key for key in bucket.keys("address/") if keys.is_data_key(key)]
    before = bucket.get(key).body
    bucket.client.delete_object(Bucket=bucket.name, Key=key)
    answer = lambda_handler({"restore": {"table": "address", "key": key}}, CONTEXT)
    assert json.loads(json.dumps(answer)) == answer
    assert answer["more"] is False
    assert answer["restore"]["restored_from"] == "source"
    assert bucket.get(key).body == before


class OneVersion:
    """A client of S3 with one version of an object, which is in a file."""

    def __init__(self, path: Path) -> None:
        self.path, self.bytes = path, 0

    def head_object(self, **_: str) -> NoReturn:
        raise s3_error("404", 404)

    def get_paginator(self, _: str) -> Any:
        versions = [{"Key": RESTORED, "VersionId": "first"}]
        return SimpleNamespace(paginate=lambda **_: [{"Versions": versions}])

    def get_object(self, **_: str) -> dict[str, Any]:
        body = StreamingBody(self.path.open("rb"), self.path.stat().st_size)
        return {"Body": body, "Metadata": {"rows": "200000"}}

    def put_object(self, *, Body: Any, Metadata: dict[str, str], **_: str) -> dict[str, str]:
        assert Metadata == {"rows": "200000"}
        while chunk := Body.read(100_000):
            self.bytes += len(chunk)
        return {"ETag": ""}


RESTORED = "payment/200000-2024-11-11T15-03-24.jsonl"


def test_a_version_of_any_size_is_put_back_in_little_memory(tmp_path):
    path = tmp_path / "version"
    path.write_bytes(b"%099d\n" * 200_000 % tuple(range(200_000)))
    client: Any = OneVersion(path)
    nothing: Any = None
    tracemalloc.start()
    try:
        done = restore(LostObject("payment", RESTORED), client, nothing, "bucket")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (done["restored_from"], done["rows"], client.bytes) == ("version", 200_000, 20_000_000)
    assert peak < 6_000_000
