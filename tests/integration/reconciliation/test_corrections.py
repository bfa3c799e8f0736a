"""The change stream says which rows are gone, and which came back; no row is lost or raised."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from urllib.parse import parse_qs, urlsplit

import boto3
import pytest

from shared.bucket import keys
from shared.tables import Table
from tests.helpers.cases import one_in
from tests.helpers.oracle.exactly_once import check_equal, content
from tests.helpers.runs.changing import SCHEMA, TABLE, changing, compare, update, write
from tests.helpers.runs.place import Died

MANY = f"INSERT INTO {TABLE} (name) SELECT 'one of many' FROM generate_series(1, 30)"
PARTITIONED = (
    f"CREATE TABLE {TABLE} (thing_id serial, name text, kind int DEFAULT 0,"
    " PRIMARY KEY (thing_id, kind)) PARTITION BY LIST (kind)",
    f"CREATE TABLE plain PARTITION OF {TABLE} FOR VALUES IN (0)",
    f"CREATE TABLE other PARTITION OF {TABLE} FOR VALUES IN (1)",
)


@pytest.fixture
def place(database, bucket):
    """33 rows have landed, and the table has been scanned."""
    place = changing(database, bucket, SCHEMA, MANY)
    place.run()
    return place


def said(place):
    """Return the lines of each object of the change stream."""
    objects = content(place.bucket)
    changes = sorted(filter(keys.is_change_key, objects))
    return [objects[key][0].decode().splitlines() for key in changes]


def check(place):
    with closing(place.database.connect()) as connection:
        check_equal(TABLE, content(place.bucket), connection)


def settle(place):
    """Run and compare as the schedules do, until nothing is left to say."""
    for _ in range(2):
        place.run()
        findings = compare(place)
        assert (findings.differing.tolist(), findings.unproved) == ([], "")


def test_a_row_that_is_gone_has_one_tombstone(place):
    write(place, f"DELETE FROM {TABLE} WHERE thing_id IN (2, 5)")
    findings = compare(place)
    assert findings.deleted.tolist() == [2, 5]
    assert (findings.buried, findings.held_back, findings.brought) == (2, 0, 0)
    lines = ['{"thing_id":2,"_deleted":true}', '{"thing_id":5,"_deleted":true}']
    assert said(place) == [lines]
    check(place)
    before = content(place.bucket)
    again = compare(place)
    assert (again.deleted.tolist(), again.buried) == ([], 0)
    assert again.rows_landed == again.rows_in_source == 31
    assert said(place) == [lines]
    assert {key for key in content(place.bucket)} == set(before)


def test_the_next_run_goes_on_behind_the_tombstones(place, log_lines):
    write(place, f"DELETE FROM {TABLE} WHERE thing_id = 2")
    compare(place)
    write(place, update(3))
    place.run()
    assert len(said(place)) == 2
    assert not [line for line in log_lines() if "lagged" in line["message"]]
    check(place)


def test_a_row_that_is_inserted_again_is_one_again(place):
    write(place, f"DELETE FROM {TABLE} WHERE thing_id = 2")
    compare(place)
    write(place, f"INSERT INTO {TABLE} VALUES (2, 'again')")
    compare(place)  # no scan has seen it, so it waits for one
    assert len(said(place)) == 1
    settle(place)
    assert len(said(place)) == 2
    check(place)


def test_a_row_that_comes_back_as_it_was_is_brought(database, bucket):
    """Its version is older than the mark, so no scan would deliver it."""
    place = changing(database, bucket, *PARTITIONED)
    write(place, f"INSERT INTO {TABLE} (kind) VALUES (1)", MANY)
    settle(place)
    write(place, f"ALTER TABLE {TABLE} DETACH PARTITION other")
    settle(place)
    assert said(place)[-1] == ['{"thing_id":4,"_deleted":true}']
    write(place, f"ALTER TABLE {TABLE} ATTACH PARTITION other FOR VALUES IN (1)")
    place.run()
    findings = compare(place)
    assert (findings.brought, findings.missing.tolist()) == (1, [])
    assert said(place)[-1] == ['{"thing_id":4,"name":null,"kind":1}']
    check(place)
    assert compare(place).brought == 0


def test_a_row_that_no_stream_ever_had_is_brought(database, bucket):
    """A partition was attached with an old row below the watermark."""
    place = changing(database, bucket, *PARTITIONED)
    write(place, MANY, f"DELETE FROM {TABLE} WHERE thing_id = 5")
    write(place, "CREATE TABLE old (LIKE plain)", "INSERT INTO old VALUES (5, 'old', 2)")
    settle(place)
    write(place, f"ALTER TABLE {TABLE} ATTACH PARTITION old FOR VALUES IN (2)")
    place.run()
    findings = compare(place)
    assert (findings.missing.tolist(), findings.brought) == ([5], 1)
    check(place)
    assert compare(place).missing.tolist() == []


def test_rolled_back_deletes_say_nothing(place):
    write(place, f"BEGIN; DELETE FROM {TABLE}; ROLLBACK")
    settle(place)
    assert said(place) == []


def test_a_delete_that_has_not_committed_says_nothing_yet(place):
    with closing(place.database.connect()) as writer:
        writer.run(f"BEGIN; DELETE FROM {TABLE} WHERE thing_id = 2")
        settle(place)
        assert said(place) == []
        writer.run("COMMIT")
    settle(place)
    assert said(place) == [['{"thing_id":2,"_deleted":true}']]


def test_a_table_that_is_emptied_waits_for_somebody(place):
    write(place, f"TRUNCATE {TABLE}")
    findings = compare(place)
    assert (findings.held_back, findings.buried, len(findings.deleted)) == (33, 0, 33)
    assert "make reconcile TABLE=thing ACCEPT_DELETES=33." in findings.objection
    assert compare(place, accept_deletes=32).held_back == 33
    assert said(place) == []
    accepted = compare(place, accept_deletes=33)
    assert (accepted.held_back, accepted.buried) == (0, 33)
    check(place)
    write(place, f"INSERT INTO {TABLE} SELECT n, 'loaded' FROM generate_series(1, 40) AS n")
    settle(place)
    check(place)


@pytest.mark.parametrize("gone", [16, 17])
def test_more_than_half_of_a_table_waits_too(place, gone):
    write(place, f"DELETE FROM {TABLE} WHERE thing_id <= {gone}")
    findings = compare(place)
    assert (findings.held_back, findings.buried) == ((0, 16) if gone == 16 else (17, 0))


def test_many_tombstones_are_in_several_objects(place, monkeypatch):
    monkeypatch.setattr("services.reconciliation.corrections._LINES", 3)
    write(place, f"DELETE FROM {TABLE} WHERE thing_id <= 10")
    assert compare(place).buried == 10
    assert [len(lines) for lines in said(place)] == [3, 3, 3, 1]
    check(place)


def test_it_can_be_turned_off(place):
    write(place, f"DELETE FROM {TABLE} WHERE thing_id = 2")
    for findings in (compare(place, with_deletes=False), compare(place, with_changes=False)):
        assert (findings.deleted.tolist(), findings.buried) == ([2], 0)
    assert said(place) == []


def test_without_a_mark_nothing_is_said(database, bucket):
    place = changing(database, bucket)
    for key in [key for key in content(place.bucket) if key.startswith("changes/")]:
        place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    write(place, f"DELETE FROM {TABLE} WHERE thing_id = 2")
    assert compare(place).buried == 0
    settle(place)
    check(place)


def test_a_column_that_is_called_like_the_tombstone(database, bucket):
    place = changing(database, bucket, SCHEMA, f"ALTER TABLE {TABLE} ADD _deleted boolean")
    compare(place)
    write(place, f"DELETE FROM {TABLE} WHERE thing_id = 2")
    findings = compare(place)
    assert (findings.held_back, findings.buried) == (1, 0)
    assert findings.objection.startswith("The table has a column '_deleted', so its rows can't")


def steps_of(place, **options):
    steps: list[str] = []
    compare(place.again(), step=steps.append, **options)
    return steps


def at_step(number, action):
    count = 0

    def step(_):
        nonlocal count
        count += 1
        if count == number:
            action()

    return step


def die():
    raise Died


SOME_STEPS = pytest.mark.parametrize(
    ("first", "stride"), [(2, 61), pytest.param(1, 1, marks=pytest.mark.long)]
)


@SOME_STEPS
def test_wherever_it_dies_the_next_one_says_it(place, first, stride, monkeypatch):
    monkeypatch.setattr("services.reconciliation.corrections._LINES", 2)
    write(place, f"DELETE FROM {TABLE} WHERE thing_id <= 5", update(7))
    place = place.now()
    for number in range(first, len(steps_of(place)), stride):
        attempt = place.again()
        with pytest.raises(Died):
            compare(attempt, step=at_step(number, die))
        settle(attempt)
        check(attempt)


def put_back(place):
    write(place, f"INSERT INTO {TABLE} VALUES (2, 'back') ON CONFLICT DO NOTHING", update(9))
    place.run()


DISTURBANCES = {
    "another comparison": compare,
    "a run": lambda place: place.run(),
    "a row is put back": put_back,
    "more is deleted": lambda place: write(place, f"DELETE FROM {TABLE} WHERE thing_id = 12"),
}


@SOME_STEPS
@pytest.mark.parametrize("with_listing", [True, False], ids=["at night", "after a run"])
@pytest.mark.parametrize("disturbance", one_in(2, DISTURBANCES))
def test_whatever_happens_meanwhile_both_streams_are_the_table(
    place, disturbance, with_listing, first, stride
):
    compare(place)
    write(place, f"DELETE FROM {TABLE} WHERE thing_id IN (2, 3)", update(7))
    place = place.now()
    for number in range(first, len(steps_of(place, with_listing=with_listing)), stride):
        attempt = place.again()
        disturb = at_step(number, partial(DISTURBANCES[disturbance], attempt))
        compare(attempt, step=disturb, with_listing=with_listing)
        settle(attempt)
        check(attempt)
        write(place, f"DELETE FROM {TABLE} WHERE thing_id = 2")


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_the_isolation_of_the_role_does_not_matter(place, level):
    place.execute(f"ALTER ROLE reader SET default_transaction_isolation = '{level}'")
    write(place, f"DELETE FROM {TABLE} WHERE thing_id = 2")
    settle(place)
    check(place)


def test_a_run_says_which_tables_are_to_be_compared(place):
    def deleted():
        return place.run()["deleted"]

    write(place, update(3))
    assert deleted() == []
    write(place, f"DELETE FROM {TABLE} WHERE thing_id = 2")
    assert deleted() == [TABLE]
    compare(place)
    write(place, update(3))
    assert deleted() == []
    write(place, f"DELETE FROM {TABLE} WHERE thing_id = 3")
    assert deleted() == [TABLE]
    assert deleted() == [TABLE]  # as long as it was not compared, also if nothing else is new
    compare(place)
    write(place, f"TRUNCATE {TABLE}")
    assert deleted() == [TABLE]


# ---------------------------------------------------------------------------
# After a run nothing is listed that the inventory has.


def after_a_run(place):
    """Compare as after a run; return what was found, and its requests to S3."""
    steps: list[str] = []
    findings = compare(place, step=steps.append, with_listing=False)
    return findings, [step.removeprefix("before ") for step in steps if "before" in step]


def listed(requests):
    urls = [request.split()[1] for request in requests if request.startswith("ListObjectsV2")]
    return [parse_qs(urlsplit(url).query)["prefix"][0] for url in urls]


def test_after_a_run_only_what_is_new_is_looked_for(place):
    compare(place)
    write(place, MANY, f"DELETE FROM {TABLE} WHERE thing_id IN (2, 40)")
    place.run()
    findings, requests = after_a_run(place)
    assert findings.deleted.tolist() == [2]
    folders = {"inventory/thing/", "changes/thing/"}
    assert set(listed(requests)) == folders
    check(place)
    steps: list[str] = []
    compare(place, step=steps.append)
    reads = [step for step in steps if "before GetObject" in step and ".jsonl" in step]
    assert [read for read in reads if "changes" not in read] == []  # the next night has them


def test_after_a_run_without_an_inventory_all_is_listed(place):
    write(place, f"DELETE FROM {TABLE} WHERE thing_id = 2")
    findings, requests = after_a_run(place)
    assert findings.deleted.tolist() == [2]
    assert {"thing/", "claims/thing/"} <= set(listed(requests))


def delete(place, key):
    boto3.client("s3").delete_object(Bucket=place.bucket.name, Key=key)


def lose_a_claim(place):
    delete(place, keys.format_claim_key(Table(TABLE), 33))


def lose_a_shard(place):
    delete(place, keys.format_shard_key(Table(TABLE), 0))


def insert_below(place):
    write(place, f"INSERT INTO {TABLE} VALUES (-5, 'below')")


@pytest.mark.parametrize("fault", [lose_a_claim, lose_a_shard, insert_below])
def test_after_a_run_all_is_listed_if_something_else_is_found(place, fault):
    compare(place)
    write(place, MANY, f"DELETE FROM {TABLE} WHERE thing_id = 2")
    place.run()
    fault(place)
    findings, requests = after_a_run(place)
    assert {"thing/", "claims/thing/"} <= set(listed(requests))
    again = compare(place, with_deletes=False)
    assert findings.deleted.tolist() == [2]
    assert again.deleted.tolist() == []
    assert findings.faults == again.faults
    assert bool(findings.faults) == (fault is lose_a_claim)


# ---------------------------------------------------------------------------
# What is remembered.


def test_what_is_known_of_the_last_comparisons_is_made_anew_if_it_is_spoilt(place, log_lines):
    place.bucket.overwrite(keys.COMPARED_KEY, b"{spoilt")
    write(place, f"DELETE FROM {TABLE} WHERE thing_id = 2")
    assert place.run()["deleted"] == [TABLE]
    assert any("compared.json is not a valid" in str(line) for line in log_lines())
    compare(place)
    assert place.run()["deleted"] == []


def test_nothing_is_lost_of_an_empty_table(database, bucket, log_lines):
    place = changing(database, bucket)
    write(place, f"TRUNCATE {TABLE}")
    for key in content(place.bucket):
        delete(place, key)
    for _ in range(2):
        compare(place)
    assert not [line for line in log_lines() if "inventory is lost" in line["message"]]


def test_all_tombstones_are_counted_also_those_of_an_attempt_that_was_overtaken(place, monkeypatch):
    monkeypatch.setattr("services.reconciliation.corrections._LINES", 3)
    write(place, f"DELETE FROM {TABLE} WHERE thing_id <= 12")
    place = place.now()
    steps: list[str] = []
    compare(place.again(), step=steps.append)
    puts = [
        n for n, step in enumerate(steps, 1) if "before PutObject" in step and "changes" in step
    ]
    attempt = place.again()
    findings = compare(attempt, step=at_step(puts[2], partial(put_back, attempt)))
    assert findings.buried == sum("_deleted" in line for lines in said(attempt) for line in lines)


def test_a_night_reads_no_change_again_because_rows_share_an_id(database, bucket):
    """The change stream has the second row of an id; the inventory knows that."""
    place = changing(database, bucket, SCHEMA.replace(" PRIMARY KEY", ""), MANY)
    place.run()
    write(
        place,
        f"INSERT INTO {TABLE} VALUES (5, 'second')",
        f"DELETE FROM {TABLE} WHERE thing_id = 7",
    )
    place.run()
    assert compare(place).missing.tolist() == []
    steps: list[str] = []
    findings = compare(place, step=steps.append)
    assert (findings.missing.tolist(), findings.elsewhere) == ([], 1)
    reads = [step for step in steps if "before GetObject" in step and "/changes/" in step]
    [own] = [read for read in reads if ".jsonl" in read]
    assert "0000000002.jsonl" in own  # the tombstone, which the night before has written
