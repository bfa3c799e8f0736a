"""A process killed before and after every request to S3 and every statement of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest

from local import totesys as totesys_database
from tests.helpers.faults.kills import killed_at, steps_of
from tests.helpers.runs.place import Place

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("one_step_at_a_time")]

TICK = ("payment", "transaction", "sales_order", "address")
NEW_ADDRESS = (
    "INSERT INTO address (address_line_1, city, postal_code, country, phone, last_updated) "
    "VALUES ('1 New Road', 'Leeds', '00123', 'Chad', '1', now())"
)


def a_first_ingest(place):
    return place


def a_tick(place):
    place.run()
    connection = place.database.connect()
    totesys_database.add_events(connection, 5)
    connection.run(NEW_ADDRESS)
    return place.now()


def an_adoption(place):
    """A run died between its claim and its object, and a row has come since."""
    place.run()
    connection = place.database.connect()
    connection.run(NEW_ADDRESS)
    place.die_after_claiming()
    connection.run(NEW_ADDRESS)
    return place.now()


def a_lost_latest(place):
    """latest.json is lost, and the last of three batches was claimed only."""
    adoption = an_adoption(replace(place, batch_rows=20))
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key="address/latest.json")
    return adoption.now()


SITUATIONS = {
    "first ingest": (a_first_ingest, ("address",)),
    "tick of four tables": (a_tick, TICK),
    "adoption": (an_adoption, ("address",)),
    "lost latest.json": (a_lost_latest, ("address",)),
}


def kill_at_every(stride, situation, totesys, bucket):
    prepare, tables = SITUATIONS[situation]
    place = prepare(Place(totesys, bucket, tables, {}))
    steps = steps_of(place)
    # Different remainders, or one situation would only see deaths before, another only after.
    points = range(len(situation) % stride, len(steps), stride)
    for point in points:
        attempt = place.again()
        assert killed_at(attempt, point), steps[point]
        attempt.run()
        attempt.check()
    return steps, points


@pytest.mark.parametrize(
    ("situation", "stride"),
    [("first ingest", 9), ("adoption", 23), ("tick of four tables", 97), ("lost latest.json", 37)],
)
def test_a_killed_run_loses_and_doubles_nothing(situation, stride, totesys, bucket):
    steps, points = kill_at_every(stride, situation, totesys, bucket)
    print(f"{situation}: {len(points)} of {len(steps)} points")
    assert Counter(step.split()[0] for step in steps)["before"] * 2 == len(steps)


@pytest.mark.long
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_run_killed_at_any_point_loses_and_doubles_nothing(situation, totesys, bucket):
    steps, points = kill_at_every(1, situation, totesys, bucket)
    print(f"{situation}: {len(points)} of {len(steps)} points")
