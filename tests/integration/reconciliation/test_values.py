"""A row that differs from its last landed line is found in its turn, and no other one is."""

from __future__ import annotations

import json
from datetime import date, timedelta
from functools import partial
from itertools import count

import boto3
import pytest

from shared.bucket import keys
from shared.tables import Table
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content, restore
from tests.helpers.runs.changing import (
    INSERT,
    SCHEMA,
    TABLE,
    changing,
    compare,
    in_batches_of,
    state,
    update,
    write,
)
from tests.helpers.runs.place import Died
from tests.integration.reconciliation.test_corrections import PARTITIONED, at_step, die

TODAY = date(2026, 11, 27)
STATE = keys.format_change_latest_key(Table(TABLE))


def night(place, days=0, **options):
    """Reconcile so many days later."""
    return compare(place, today=TODAY + timedelta(days), **options)


@pytest.fixture
def place(database, bucket):
    """Thirty rows have landed in ten objects, and were proved."""
    place = in_batches_of(changing(database, bucket), 3)
    write(place, *[INSERT] * 9)
    place.run()
    findings = night(place)
    assert (findings.proved, findings.days_behind, findings.unproved) == (30, 0, "")
    return place


def alter(place, key, old, new):
    body, metadata = content(place.bucket)[key]
    assert old in body
    restore(place.bucket, {key: (body.replace(old, new, 1), metadata)})


def last_data_key(place):
    return max(
        landed.data_keys(place.bucket, TABLE), key=lambda key: keys.parse_data_key(key).row_id
    )


def forget_update(place, row_id):
    """Update a row, and let the stream believe that it was delivered."""
    write(place, update(row_id))
    said = state(place)
    [[snapshot]] = place.database.connect().run("SELECT pg_current_snapshot()::text")
    said["done"] |= {"snapshot": snapshot}
    restore(place.bucket, {STATE: (json.dumps(said).encode(), {})})


# --- what differs is found ---


def test_a_line_that_was_altered_by_hand_is_found_the_same_night(place):
    alter(place, last_data_key(place), b'"new"', b'"old"')
    findings = night(place, 1)
    assert (findings.differing.tolist(), findings.differing_columns) == ([28], ["name"])
    assert findings.faults == []
    again = night(place, 2)
    assert (again.differing.tolist(), again.days_behind) == ([28], 0)


def test_an_update_that_was_not_delivered_is_found_in_its_turn(place):
    forget_update(place, 17)
    place.run()
    found = [night(place, day).differing.tolist() for day in range(1, 31)]
    assert [17] in found
    assert all(each in ([], [17]) for each in found)


def test_an_update_that_fires_no_trigger_is_delivered_or_found(place):
    write(
        place,
        f"SET session_replication_role = replica; {update(5)}; RESET session_replication_role",
    )
    assert night(place, 30).differing.tolist() == []  # the next run delivers it
    place.run()
    assert night(place, 31).differing.tolist() == []
    assert night(place, 61).proved == 30


def test_a_change_object_that_is_lost_is_found_in_its_turn(place):
    write(place, update(4), update(20))
    place.run()
    boto3.client("s3").delete_object(
        Bucket=place.bucket.name, Key=keys.format_change_key(Table(TABLE), 1)
    )
    assert night(place, 30).differing.tolist() == [4, 20]


def test_a_row_that_changed_while_its_partition_was_detached_is_found(database, bucket):
    place = changing(
        database, bucket, *PARTITIONED, f"INSERT INTO {TABLE} (name, kind) VALUES ('a', 1)"
    )
    place.run()
    write(place, f"ALTER TABLE {TABLE} DETACH PARTITION other", "UPDATE other SET name = 'b'")
    place.run()
    write(place, f"ALTER TABLE {TABLE} ATTACH PARTITION other FOR VALUES IN (1)")
    place.run()
    findings = night(place, 30)
    assert (findings.differing.tolist(), findings.differing_columns) == ([1], ["name"])


def test_all_columns_that_differ_are_named(place):
    key = last_data_key(place)
    alter(place, key, b'"new"', b'"old"')
    alter(place, key, b"false", b"true")
    assert night(place, 1).differing_columns == ["name", "paid"]


# --- what does not differ is not ---


def test_rows_in_newer_versions_are_left_to_the_next_scan(place):
    write(place, "UPDATE thing SET name = 'newer'")
    assert night(place, 30).differing.tolist() == []
    place.run()
    assert night(place, 31).differing.tolist() == []


def test_rows_that_share_an_id_are_not_compared(database, bucket):
    place = changing(database, bucket, SCHEMA.replace(" PRIMARY KEY", ""))
    write(place, "INSERT INTO thing VALUES (2, 'another')")
    place.run()
    write(place, "INSERT INTO thing VALUES (3, 'a third')", update(1))
    place.run()
    assert night(place, 30).differing.tolist() == []


def test_whatever_lies_in_the_change_stream_the_last_line_counts(place):
    for _ in range(3):
        write(place, update(4), update(20))
        place.run()
        assert night(place, 1).differing.tolist() == []
    write(place, "DELETE FROM thing WHERE thing_id = 4")
    assert night(place, 30).buried == 1
    write(place, "INSERT INTO thing VALUES (4, 'back')")
    place.run()
    findings = night(place, 60)
    assert (findings.differing.tolist(), findings.proved) == ([], 30)


def test_without_a_mark_nothing_is_proved_and_the_report_says_so(place):
    assert night(place, 1, with_changes=False).unproved == "the table has no change stream"
    boto3.client("s3").delete_object(Bucket=place.bucket.name, Key=STATE)
    findings = night(place, 30)
    assert (findings.proved, "no scan" in findings.unproved) == (0, True)


# --- turns, and time ---


def test_old_batches_are_proved_in_turn_so_that_none_waits_longer_than_it_may(place):
    """Each night takes its share, and each batch has its turn in time."""
    proved = [night(place, day, proof_days=5).proved for day in range(1, 31)]
    assert proved[:5] == [6] * 5  # two batches a night
    assert sum(proved[5:10]) >= 30
    assert max(proved) <= 30
    assert [night(place, 31 + day, proof_days=5).days_behind for day in range(5)] == [0] * 5


def test_what_there_is_no_time_for_is_counted_in_days_and_made_up_for(place):
    findings = night(place, 33, is_time_to_prove=lambda: False)
    assert (findings.proved, findings.days_behind) == (0, 3)
    left = iter([True, True, False])
    findings = night(place, 34, is_time_to_prove=lambda: next(left))
    assert findings.days_behind in {0, 4}
    findings = night(place, 35)
    assert (findings.differing.tolist(), findings.days_behind) == ([], 0)


def test_new_batches_come_before_old_ones(place):
    write(place, INSERT)
    place.run()
    alter(place, last_data_key(place), b'"new"', b'"old"')
    left = count()
    findings = night(place, 1, is_time_to_prove=lambda: next(left) < 2)
    assert findings.differing.tolist() == [31]


@pytest.mark.parametrize(("first", "stride"), [(3, 83), pytest.param(1, 1, marks=pytest.mark.long)])
def test_wherever_it_dies_the_next_night_finds_the_same(place, first, stride):
    forget_update(place, 17)
    write(place, update(3), "DELETE FROM thing WHERE thing_id = 9")
    place.run()
    place = place.now()
    steps: list[str] = []
    night(place.again(), 30, step=steps.append)
    for number in range(first, len(steps), stride):
        attempt = place.again()
        with pytest.raises(Died):
            night(attempt, 30, step=at_step(number, die))
        assert night(attempt, 30).differing.tolist() == [17]


@pytest.mark.parametrize(("first", "stride"), [(2, 23), pytest.param(1, 1, marks=pytest.mark.long)])
def test_a_mark_that_is_set_while_it_looks_proves_nothing(place, first, stride):
    """Runs deliver updates, and latest.json is lost: the mark of the last object is too new."""
    place = place.now()
    steps: list[str] = []
    night(place.again(), 60, step=steps.append, with_deletes=False)

    def deliver(attempt):
        for row_id in (20, 21):
            write(attempt, update(row_id))
            attempt.run()
        boto3.client("s3").delete_object(Bucket=attempt.bucket.name, Key=STATE)

    for number in range(first, len(steps), stride):
        attempt = place.again()
        disturb = at_step(number, partial(deliver, attempt))
        assert night(attempt, 60, step=disturb, with_deletes=False).differing.tolist() == []
