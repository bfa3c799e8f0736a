"""A load that is disturbed at any of its steps: by a death, a run, another load."""

from __future__ import annotations

from dataclasses import replace
from itertools import count, product

import pytest

from tests.helpers.cases import as_long, one_in
from tests.helpers.faults.steps import PausedRun
from tests.helpers.runs.loading import Loading
from tests.helpers.runs.place import Died, Place

pytestmark = [pytest.mark.thorough, pytest.mark.usefixtures("one_step_at_a_time")]

INSERT = "INSERT INTO design (name) SELECT 'new' FROM generate_series(1, {})"
STRIDE = 47


@pytest.fixture
def place(database, bucket):
    """A table of 40 rows of which 10 have landed; a batch has 10 rows at most."""
    place = Place(database, bucket, ["design"], {}, batch_rows=10)
    place.execute(
        "CREATE TABLE design (design_id serial PRIMARY KEY, name text)", INSERT.format(10)
    )
    place.run()
    place.execute(INSERT.format(30))
    return place.now()


class Dying:
    """A step that dies when it has been called so many times."""

    def __init__(self, point):
        self.left = point

    def __call__(self, step):
        if self.left == 0:
            raise Died
        self.left -= 1


def survives(work, point):
    """Tell whether some work dies at a step."""
    try:
        work(Dying(point))
    except Died:
        return False
    return True


def steps_of(place, work):
    steps: list[str] = []
    work(Loading(place.again()))(steps.append)
    return steps


def planning(loading):
    return loading.plan


def landing(loading):
    """Land the second batch of three first."""
    item = loading.plan()["items"][1]
    return lambda step: loading.land(item, step)


def finishing(loading):
    done = [loading.land(item) for item in loading.plan()["items"]]
    return lambda step: loading.finish(done, step)


WORKS = [planning, landing, finishing]


@pytest.mark.parametrize("stride", [STRIDE, as_long(1)])
@pytest.mark.parametrize("work", WORKS)
def test_a_load_goes_on_where_another_one_died(place, work, stride):
    """A load dies at a step, and another one comes."""
    steps = steps_of(place, work)
    assert len(steps) > 10
    for point in range(min(stride - 1, 5 * WORKS.index(work)), len(steps), stride):
        attempt = place.again()
        assert not survives(work(Loading(attempt)), point)
        Loading(attempt).run()
        attempt.check()


@pytest.mark.parametrize("stride", [2 * STRIDE, as_long(1)])
@pytest.mark.parametrize("work", WORKS)
def test_runs_alone_finish_what_a_load_has_left(place, work, stride):
    for point in range(7, len(steps_of(place, work)), stride):
        attempt = place.again()
        assert not survives(work(Loading(attempt)), point)
        attempt.execute(INSERT.format(1))
        attempt.run()
        attempt.check()


def disturbed(place, work, point, disturb):
    """Do a work; at one of its steps something else happens."""
    steps = count()

    def step(_):
        if next(steps) == point:
            disturb()

    return work(Loading(place))(step)


@pytest.mark.parametrize("stride", [STRIDE, as_long(1)])
@pytest.mark.parametrize("work", WORKS)
def test_a_run_at_any_step_of_a_load_leaves_one_chain(place, work, stride):
    for point in range(9 + WORKS.index(work), len(steps_of(place, work)), stride):
        attempt = place.again()
        attempt.execute(INSERT.format(3))
        disturbed(attempt, work, point, attempt.run)
        Loading(attempt).run()
        attempt.check()


def other_size(place, rows):
    """A load of the same place, in batches of another size."""
    return Loading(replace(place, batch_rows=rows))


@pytest.mark.parametrize("stride", [23, as_long(1)])
@pytest.mark.parametrize("rows", one_in(4, [7, 3, 10, 25]))
def test_two_plans_side_by_side_make_one_chain(place, rows, stride):
    """Each stops at a step of its own while the other one claims, in batches of two sizes."""
    steps = [each for each in steps_of(place, planning) if each.startswith("before")]
    for point, first in product(range(4, len(steps), stride), [True, False]):
        attempt = place.again()
        one, other = (
            PausedRun(load.plan) for load in (Loading(attempt), other_size(attempt, rows))
        )
        one.advance(point)
        other.advance(point // 2)
        for each in (one, other) if first else (other, one):
            each.finish()
        Loading(attempt).run()
        attempt.check()  # nothing but one chain: no claim begins elsewhere


@pytest.mark.parametrize("stride", [17, as_long(1)])
def test_two_workers_on_the_same_item_land_each_batch_once(place, stride):
    for point in range(0, 30, stride):
        attempt = place.again()
        item = Loading(attempt).plan()["items"][0]
        one, other = (
            PausedRun(lambda step: Loading(attempt).land(item, step))  # noqa: B023
            for _ in range(2)
        )
        one.advance(point)
        other.finish()
        one.finish()
        Loading(attempt).run()
        attempt.check()
