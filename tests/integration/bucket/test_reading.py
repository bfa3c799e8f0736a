"""`read_new` on a real bucket, with what runs have landed in it."""

from __future__ import annotations

import boto3
import pytest

from shared.bucket import keys, read_new
from shared.errors import LandingError, StateError
from shared.tables import Table
from tests.helpers.faults.steps import operations
from tests.helpers.oracle.landed import data_keys
from tests.helpers.runs.changing import INSERT, bury, changing, update, write

VIEW = (
    "CREATE TABLE base (thing_id serial PRIMARY KEY, name text)",
    "CREATE VIEW thing AS SELECT * FROM base",
)


def read(bucket, checkpoint=None, limit=None, client=None):
    return read_new("thing", checkpoint, client or bucket.client, bucket.name, limit)


def test_rows_changes_and_deletes_come_once_each(database, bucket):
    place = changing(database, bucket)
    first = read(bucket)
    assert first.upserts["thing_id"].tolist() == [1, 2, 3]
    write(place, update(1), "DELETE FROM thing WHERE thing_id = 2", INSERT)
    place.run()
    assert bury(place, "thing") == 1
    second = read(bucket, first.checkpoint)
    assert second.upserts.to_dict("list") == {
        "thing_id": [1, 4, 5, 6],
        "name": ["new!", "new", "new", "new"],
        "paid": [False] * 4,
    }
    assert second.deleted == [2]
    third = read(bucket, second.checkpoint)
    assert (third.upserts.empty, third.deleted) == (True, [])
    assert third.checkpoint == second.checkpoint


def test_a_view_has_rows_and_no_changes(database, bucket):
    place = changing(database, bucket, *VIEW)
    write(place, INSERT, update(1))
    place.run()
    assert read(bucket).upserts["thing_id"].tolist() == [1, 2, 3, 4, 5, 6]
    assert read(bucket).checkpoint == "thing/6/0"


def test_nothing_new_is_two_requests(database, bucket):
    place = changing(database, bucket)
    for _ in range(3):
        write(place, INSERT, update(1))
        place.run()
    checkpoint = read(bucket).checkpoint

    def count(step):
        client = boto3.client("s3")
        client.meta.events.register("after-call.s3", lambda model, **_: step(f"after {model.name}"))
        assert read(bucket, checkpoint, client=client).checkpoint == checkpoint

    assert operations(count) == {"ListObjectsV2": 1, "GetObject": 1}


def test_a_lost_object_is_named(database, bucket):
    place = changing(database, bucket)
    write(place, INSERT)
    place.run()
    lost = data_keys(bucket, "thing")[0]
    bucket.client.delete_object(Bucket=bucket.name, Key=lost)
    with pytest.raises(StateError, match=f"{lost} is missing"):
        read(bucket)


def test_a_bucket_that_does_not_exist_is_named(bucket):
    folder = keys.change_folder(Table("thing"))
    with pytest.raises(LandingError, match=f"list s3://nothing/{folder}: NoSuchBucket"):
        read_new("thing", None, bucket.client, "nothing")
