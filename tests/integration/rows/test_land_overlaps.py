"""Runs on the same table at the same time, each stopped before every step while others go on."""

from __future__ import annotations

import threading
from itertools import permutations, product
from typing import Any

import pytest

from services.ingestion import get_latest_id, get_table_data, write_table_data
from shared.errors import IngestionError
from tests.helpers.faults.steps import PausedRun
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content, restore
from tests.helpers.runs.place import Place

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("one_step_at_a_time")]

INSERT = "INSERT INTO thing (name) SELECT 'new' FROM generate_series(1, 3)"


@pytest.fixture
def place(database, bucket):
    """A table of which some rows have landed and others have not."""
    connection = database.connect()
    connection.run("CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)")
    connection.run(INSERT)
    place = Place(database, bucket, ["thing"], {})
    place.run()
    connection.run(INSERT)
    return place.now()


@pytest.fixture
def adoption(place):
    """The same, where a run died after its claim."""
    place.die_after_claiming()
    place.execute(INSERT)
    return place.now()


def steps_of(place):
    """Return the steps of a run, which are never so few that nothing can come in between."""
    steps: list[str] = []
    place.again().run(steps.append)
    found = [step for step in steps if step.startswith("before")]
    assert len(found) > 8
    return found


def overlap(place, first_step, second_step, *, first_ends_first):
    """Stop one run before a step, another one before a step of its own; let both go on."""
    place = place.again()
    first = PausedRun(place.run)
    first.advance(first_step)
    place.execute(INSERT)  # so the second one has other rows than the first
    second = PausedRun(place.run)
    second.advance(second_step)
    for run in (first, second) if first_ends_first else (second, first):
        run.finish()
    place.check()  # at once: no run has died, so nothing is left to be mended


@pytest.mark.parametrize(("situation", "stride"), [("place", 2), ("adoption", 4)])
def test_one_run_finishes_between_two_steps_of_another(situation, stride, request):
    place = request.getfixturevalue(situation)
    steps = len(steps_of(place))
    for step in range(0, steps, stride):
        overlap(place, step, steps * 2, first_ends_first=True)


def test_two_runs_stop_at_the_same_step(place):
    for step in range(3, len(steps_of(place)), 2):
        overlap(place, step, step, first_ends_first=step % 4 == 1)


@pytest.mark.long
@pytest.mark.parametrize("first_ends_first", [True, False])
@pytest.mark.parametrize("situation", ["place", "adoption"])
def test_two_runs_stop_at_any_two_steps(situation, first_ends_first, request):
    place = request.getfixturevalue(situation)
    steps = range(len(steps_of(place)))
    for first, second in product(steps, steps):
        overlap(place, first, second, first_ends_first=first_ends_first)


@pytest.mark.parametrize("one_by_one", [True, False], ids=["one by one", "together"])
@pytest.mark.parametrize(
    "order",
    [
        (0, 1, 2),
        (2, 1, 0),
        *(pytest.param(order, marks=pytest.mark.long) for order in permutations(range(3))),
    ],
    ids=str,
)
def test_three_runs_about_to_claim_the_same_batch_with_different_rows(place, order, one_by_one):
    runs = []
    for _ in range(3):
        runs.append(PausedRun(place.run))
        runs[-1].advance(lambda step: "PutObject" in step and "/claims/" in step)
        place.execute(INSERT)
    for number in order:
        if one_by_one:
            runs[number].finish()
        else:
            runs[number].advance()
    for number in order:
        runs[number].finish()
    place.run()  # for the rows that came after the last of them had read
    place.check()


def test_a_run_that_was_overtaken_lands_what_the_other_one_has_claimed_and_not_landed(place):
    """Or it would end with rows landed that refer to rows which have not, and call it complete."""
    overtaken = PausedRun(place.run)
    overtaken.advance(lambda step: "PutObject" in step)
    place.execute(INSERT)
    claiming = PausedRun(place.run)
    claiming.advance(lambda step: "PutObject" in step and ".jsonl" in step)
    overtaken.finish()
    place.check()
    claiming.finish()
    place.check()


def test_a_writer_whose_rows_end_within_the_claim_of_another_writes_nothing(adoption):
    client, name = adoption.bucket.client, adoption.bucket.name
    connection = adoption.database.connect("reader")
    watermark = get_latest_id("thing", client, name)
    some = get_table_data("thing", watermark, connection, limit=2)
    assert write_table_data("thing", some, client, name)["message"].startswith("0 lines")
    assert adoption.now().before == adoption.before
    everything = get_table_data("thing", watermark, connection)
    assert write_table_data("thing", everything, client, name)["message"].startswith("6 lines")
    adoption.check()


def test_rows_read_before_another_run_landed_them_are_left_out(place):
    client, name = place.bucket.client, place.bucket.name
    connection = place.database.connect("reader")
    rows = get_table_data("thing", get_latest_id("thing", client, name), connection)
    place.execute(INSERT)
    place.run()
    assert write_table_data("thing", rows, client, name)["message"].startswith("0 lines")
    place.check()


def test_latest_json_never_goes_back(place):
    """A run that comes to write latest.json last, and has landed less, leaves it alone."""
    slow = PausedRun(place.run)
    slow.advance(lambda step: "PutObject" in step and "latest.json" in step)
    place.execute(INSERT)
    place.run()
    after = landed.latest(place.bucket, "thing")
    slow.finish()
    assert landed.latest(place.bucket, "thing") == after
    place.check()


def test_a_claim_that_is_gone_again_is_nobodys(place):
    """Whoever took it for his own would land its rows a second time."""
    slow = PausedRun(place.run)
    assert slow.advance(lambda step: "PutObject" in step and "/claims/" in step)
    place.run()
    assert slow.advance(lambda step: "GetObject" in step and "/claims/" in step)
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key="claims/thing/3.json")
    before = content(place.bucket)
    with pytest.raises(IngestionError, match=r"StateError.*existed a moment ago and is missing"):
        slow.finish()
    assert content(place.bucket) == before


def test_what_another_run_landed_before_we_ask_does_not_look_set_back(place, log_lines):
    """We have asked the database already, and the bucket answers late."""
    asked = threading.Event()
    others: list[dict[str, Any]] = []

    def step(words):
        if words.startswith("after SELECT seen"):
            asked.set()
        if words.startswith("before GetObject") and not others:
            others.append({})
            assert asked.wait(30)
            place.execute(INSERT)
            others.append(place.run())

    place.run(step)
    assert others[1]["rows"] == 6
    assert not [line for line in log_lines() if "is below its watermark" in line["message"]]
    place.check()


@pytest.mark.parametrize("is_put_back", [False, True])
def test_latest_json_lost_or_put_back_while_a_run_is_on_its_way(place, is_put_back):
    key = "thing/latest.json"
    yesterdays = place.before[key]
    place.run()
    place.execute(INSERT)
    run = PausedRun(place.run)
    run.advance(lambda step: "PutObject" in step and key in step)
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    if is_put_back:
        restore(place.bucket, {key: yesterdays})
    run.finish()
    place.check()
