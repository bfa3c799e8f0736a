"""Updates at every step of a run, runs that die there, and runs that overtake each other."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest

from services.ingestion import Limits
from shared.bucket import keys
from shared.errors import IngestionError
from shared.tables import Table
from tests.helpers.faults import s3 as faults
from tests.helpers.faults.kills import killed_at, steps_of
from tests.helpers.faults.steps import PausedRun
from tests.helpers.runs.changing import (
    INSERT,
    SCHEMA,
    changed,
    changing,
    check_both,
    in_batches_of,
    run_for,
    run_with,
    run_within,
    update,
    write,
)
from tests.helpers.runs.place import Died, Place, die_before_the_object, without_retries

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("one_step_at_a_time")]

UPDATE_ALL = "UPDATE thing SET name = name || '.'"
INSERT_MORE = "INSERT INTO thing (name) SELECT 'more' FROM generate_series(1, 3)"
DELETE_MORE = "DELETE FROM thing WHERE name LIKE 'more%'"


def a_tick(database, bucket):
    place = changing(database, bucket)
    write(place, INSERT, update(1))
    return place


def a_first_run(database, bucket):
    place = Place(database, bucket, ["thing"], {}, with_changes=True)
    write(place, SCHEMA, INSERT)
    return place


def an_adoption(database, bucket):
    """A run died between its claim and its object, and what it claimed has changed since."""
    place = changing(database, bucket)
    write(place, INSERT)
    place.die_after_claiming()
    write(place, update(1), update(5))
    return place.now()


def small_batches(database, bucket):
    place = changing(database, bucket)
    write(place, INSERT)
    place.run()
    write(place, INSERT, "UPDATE thing SET paid = true")
    return in_batches_of(place.now(), 2)


SITUATIONS = {
    "tick": a_tick,
    "first run": a_first_run,
    "adoption": an_adoption,
    "small batches": small_batches,
}
STRIDES = [
    ("adoption", 4),
    pytest.param("tick", 3, marks=pytest.mark.long),
    pytest.param("first run", 3, marks=pytest.mark.long),
    pytest.param("small batches", 8, marks=pytest.mark.long),
]


def update_all(place):
    return lambda: write(place, UPDATE_ALL)


def update_at_every(stride, situation, database, bucket):
    """Update every row right before a step, each in turn; check after the run that comes next."""
    place = SITUATIONS[situation](database, bucket)
    number, steps = 0, 1
    while number < steps:
        attempt = place.again()
        steps = run_with(attempt, number, update_all(place))
        attempt.run()
        check_both(attempt)
        number += stride
    return steps


@pytest.mark.parametrize(("situation", "stride"), STRIDES)
def test_an_update_between_two_steps_of_a_run(situation, stride, database, bucket):
    assert update_at_every(stride, situation, database, bucket) > 8


@pytest.mark.long
@pytest.mark.parametrize("situation", SITUATIONS)
def test_an_update_between_any_two_steps_of_a_run(situation, database, bucket):
    print(situation, update_at_every(1, situation, database, bucket), "steps")


def kill_at_every(stride, situation, database, bucket):
    place = SITUATIONS[situation](database, bucket)
    points = range(len(situation) % stride, len(steps_of(place)), stride)
    for point in points:
        attempt = place.again()
        assert killed_at(attempt, point)
        write(place, UPDATE_ALL)
        attempt.run()
        check_both(attempt)
    return len(points)


@pytest.mark.parametrize(("situation", "stride"), STRIDES)
def test_a_killed_run_loses_no_version(situation, stride, database, bucket):
    assert kill_at_every(3 * stride, situation, database, bucket)


@pytest.mark.long
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_run_killed_at_any_point_loses_no_version(situation, database, bucket):
    print(situation, kill_at_every(1, situation, database, bucket), "points")


def overlap(place, first_step, second_step, *, first_ends_first):
    """Stop two runs before a step each, change the table in between, and let both go on."""
    place = place.again()
    write(place, DELETE_MORE)
    first = PausedRun(place.run)
    first.advance(first_step)
    write(place, UPDATE_ALL, INSERT_MORE)
    second = PausedRun(place.run)
    second.advance(second_step)
    write(place, update(1), update(4))
    for run in (first, second) if first_ends_first else (second, first):
        run.finish()
    place.run()
    check_both(place)


def number_of_steps(place):
    return len(steps_of(place)) // 2


@pytest.mark.long
@pytest.mark.parametrize(("situation", "stride"), [("tick", 3), ("adoption", 4)])
def test_one_run_finishes_between_two_steps_of_another(situation, stride, database, bucket):
    place = SITUATIONS[situation](database, bucket)
    steps = number_of_steps(place)
    assert steps > 3 * stride
    for step in range(0, steps, stride):
        overlap(place, step, steps * 2, first_ends_first=True)


@pytest.mark.long
def test_two_runs_stop_at_the_same_step(database, bucket):
    place = a_tick(database, bucket)
    assert number_of_steps(place) > 8
    for step in range(2, number_of_steps(place), 3):
        overlap(place, step, step, first_ends_first=bool(step % 2))


@pytest.mark.long
@pytest.mark.parametrize("first_ends_first", [True, False])
@pytest.mark.parametrize("situation", SITUATIONS)
def test_two_runs_stop_at_any_two_steps(situation, first_ends_first, database, bucket):
    place = SITUATIONS[situation](database, bucket)
    steps = range(0, number_of_steps(place), 2 if situation == "small batches" else 1)
    assert len(steps) > 8
    for first, second in product(steps, steps):
        overlap(place, first, second, first_ends_first=first_ends_first)


def puts_rows(step):
    return "PutObject" in step and "/thing/" in step and ".jsonl" in step and "changes" not in step


def test_rows_that_another_run_has_read_before_they_changed(database, bucket):
    """The other one lands them in the middle of our run, and comes no further."""
    place = a_tick(database, bucket)
    slow = PausedRun(place.run)
    slow.advance(puts_rows)
    write(place, UPDATE_ALL)
    ours = PausedRun(place.run)
    ours.advance(puts_rows)
    slow.advance()
    ours.finish()
    place.run()
    check_both(place)
    slow.finish()
    place.run()
    check_both(place)


@pytest.mark.parametrize("batch_rows", [1, 2])
def test_rows_that_were_read_long_ago_and_land_last(database, bucket, batch_rows):
    """A run that is slow goes on behind one that ran out of time in the middle of a first load."""
    place = a_first_run(database, bucket)
    slow = PausedRun(place.run)
    slow.advance(lambda step: "PutObject" in step and "/claims/" in step)
    write(place, UPDATE_ALL)
    assert run_for(in_batches_of(place, batch_rows), 2)["more"]
    slow.finish()
    place.run()
    check_both(place)


def asks_for_writers(step):
    return step.startswith("before") and "WITH RECURSIVE up" in step


def test_rows_held_back_from_us_that_another_run_has_read_before_they_changed(database, bucket):
    """It waits for the same writer, and lands after our scan what it has read before our mark.

    The writer has written nothing yet, so that our mark is not held back by it.
    """
    place = changing(database, bucket)
    writer = database.connect()
    writer.run("BEGIN; UPDATE thing SET paid = true WHERE false")
    write(place, "BEGIN; INSERT INTO thing DEFAULT VALUES; ROLLBACK", INSERT)
    slow = PausedRun(place.run)
    assert slow.advance(asks_for_writers)
    write(place, UPDATE_ALL)
    ours = run_within(place, Limits(writer_wait_seconds=0))
    assert ours["tables"]["thing"]["held_back_rows"] == 3
    writer.run("COMMIT")
    slow.finish()
    place.run()
    check_both(place)


def test_a_first_batch_that_is_claimed_by_a_run_that_keeps_no_changes(database, bucket):
    """It may have been read before any mark of ours, and land after we have died."""
    place = a_first_run(database, bucket)
    slow = PausedRun(replace(place, with_changes=False).run)
    slow.advance(puts_rows)
    write(place, UPDATE_ALL)
    with pytest.raises(Died):
        place.run(die_before_the_object)
    slow.finish()
    place.run()
    check_both(place)


# S3 failing where the changes go.


def is_change(request):
    return request.method == "PUT" and "/changes/" in request.path and "latest" not in request.path


def is_state(request):
    return request.method == "PUT" and "/changes/" in request.path and "latest" in request.path


def is_list(request):
    return request.method == "GET" and "list-type" in request.path


FAULTS = {
    "500": (faults.refused(500, "InternalError"), True),
    "403": (faults.refused(403, "AccessDenied"), False),
    "applied, then 500": (faults.applied_then_failed, True),
    "applied, then reset": (faults.applied_then_reset, True),
    "reset": (faults.reset, True),
}


@pytest.mark.long
@pytest.mark.parametrize("matches", [is_change, is_state, is_list])
@pytest.mark.parametrize(("fault", "transient"), FAULTS.values(), ids=FAULTS)
def test_s3_fails_at_the_changes(matches, fault, transient, database, bucket, aws_endpoint):
    place = changing(database, bucket)
    write(place, update(1))
    with faults.faulty_s3(aws_endpoint) as proxy:
        proxy.choose = lambda request: fault if matches(request) else None
        with pytest.raises(IngestionError) as failure:
            place.run(endpoint_url=proxy.url, config=without_retries())
    assert failure.value.failures["thing"].transient == transient
    write(place, update(2))
    place.run()
    check_both(place)


@pytest.mark.parametrize("matches", [is_change, is_state])
def test_a_put_that_arrives_after_the_next_run(matches, database, bucket, aws_endpoint):
    place = changing(database, bucket)
    write(place, update(1))
    with faults.faulty_s3(aws_endpoint) as proxy:
        proxy.choose = lambda request: faults.held if matches(request) else None
        with pytest.raises(IngestionError):
            place.run(endpoint_url=proxy.url, config=without_retries())
        write(place, UPDATE_ALL)
        place.run()
        [answer] = proxy.release()
    assert answer.status == 412
    place.run()
    check_both(place)


def test_an_object_that_arrives_while_the_next_run_reads(database, bucket, aws_endpoint):
    """Its rows are older than those the run has read, which must not go in front of them."""
    place = changing(database, bucket)
    write(place, update(1))
    with faults.faulty_s3(aws_endpoint) as proxy:
        proxy.choose = lambda request: faults.held if is_change(request) else None
        with pytest.raises(IngestionError):
            place.run(endpoint_url=proxy.url, config=without_retries())
        write(place, update(1), update(2))
        run = PausedRun(place.run)
        run.advance(lambda step: "PutObject" in step and "/changes/" in step)
        [answer] = proxy.release()
        assert answer.status == 200
        run.finish()
    assert changed(place) == [[1]]
    place.run()
    assert changed(place) == [[1], [1, 2]]
    check_both(place)


def test_a_run_that_was_overtaken_drops_its_rows(database, bucket):
    place = changing(database, bucket)
    write(place, update(1))
    slow = PausedRun(place.run)
    slow.advance(lambda step: "PutObject" in step and "/changes/" in step)
    write(place, update(1), update(2))
    place.run()
    slow.finish()
    assert changed(place) == [[1, 2]]
    assert place.bucket.get(keys.format_change_key(Table("thing"), 2)) is None
    check_both(place)
