"""A load is under way: what is claimed and has not landed is no fault, and what landed behind it is
nobody's concern yet.
"""

from __future__ import annotations

from contextlib import closing

import pytest

from shared.bucket import keys, read_new
from shared.tables import Table
from tests.helpers.oracle.exactly_once import check_equal, content
from tests.helpers.runs.changing import SCHEMA, TABLE, changing, compare, update, write
from tests.helpers.runs.holes import batch_key, claim_batches, land_batches

pytestmark = pytest.mark.thorough

MANY = f"INSERT INTO {TABLE} (name) SELECT 'one of many' FROM generate_series(1, 30)"
THING = Table(TABLE)
ENDS = (33, 43, 53, 63)


@pytest.fixture
def place(database, bucket):
    """33 rows have landed. 30 more are claimed, of which the last ten have landed."""
    place = changing(database, bucket, SCHEMA, MANY)
    place.run()
    write(place, MANY)
    claim_batches(place, THING, ENDS)
    land_batches(place, THING, [ENDS[2:]])
    return place


def read_all(place):
    """Return the ids that a consumer has, from the beginning."""
    client, name = place.bucket.client, place.bucket.name
    checkpoint, rows = None, set[int]()
    while True:
        new = read_new(TABLE, checkpoint, client, name, limit=10)
        rows = (rows | set(new.upserts["thing_id"])) - set(new.deleted)
        if new.checkpoint == checkpoint:
            return rows
        checkpoint = new.checkpoint


def in_source(place, up_to=None):
    with closing(place.database.connect()) as connection:
        found = {row_id for [row_id] in connection.run(f"SELECT thing_id FROM {TABLE}")}
    return found if up_to is None else {row_id for row_id in found if row_id <= up_to}


def test_above_the_front_nothing_is_missing_deleted_or_faulty(place):
    write(
        place,
        f"DELETE FROM {TABLE} WHERE thing_id IN (5, 40, 60)",
        *map(update, (6, 41, 61)),
    )
    findings = compare(place)
    assert (findings.deleted.tolist(), findings.buried) == ([5], 1)
    assert (findings.missing.tolist(), findings.faults) == ([], [])
    assert (findings.watermark, findings.rows_landed) == (33, 33)
    assert read_all(place) == in_source(place, up_to=33)
    assert compare(place, with_listing=False).deleted.tolist() == []


def test_once_a_run_has_landed_the_rest_all_is_as_in_the_source(place):
    deleted = (5, 40, 60)
    write(place, f"DELETE FROM {TABLE} WHERE thing_id IN {deleted}", *map(update, (6, 41, 61)))
    compare(place)
    assert place.run()["tables"][TABLE]["objects"] == 2
    findings = compare(place)
    assert findings.deleted.tolist() == [60]
    place.run()
    assert (compare(place).faults, compare(place).missing.tolist()) == ([], [])
    with closing(place.database.connect()) as connection:
        check_equal(TABLE, content(place.bucket), connection)
    assert read_all(place) == in_source(place)


def test_updates_behind_a_hole_are_delivered_although_others_landed_their_rows(place):
    """The worker read row 61 before the run's mark: the next run scans from the old one."""
    write(place, update(61))
    place.run()
    place.run()
    with closing(place.database.connect()) as connection:
        check_equal(TABLE, content(place.bucket), connection)


@pytest.mark.parametrize("lost", [33, 43])
def test_what_is_lost_below_the_front_is_a_fault(place, lost):
    land_batches(place, THING, [ENDS[:2]])
    place.run()
    claim = keys.format_claim_key(THING, lost)
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=claim)
    key = batch_key(THING, 63)
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    findings = compare(place)
    assert {fault.key for fault in findings.faults} == {claim, key, batch_key(THING, lost + 10)}
