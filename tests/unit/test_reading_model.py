"""Copies that are kept by `read_new` while everything moves and everybody dies."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from shared.bucket import read_new
from tests.helpers.models.memory_s3 import MemoryS3
from tests.helpers.models.moving_table import MovingTable

MOST_CALLS = 500


class Died(BaseException):
    """A consumer ends here and now."""


class Consumer:
    """A copy of the table, kept as the guide says.

    Attributes:
        copy: the version of each row.
        checkpoint: as it was stored last.
    """

    def __init__(self, s3, limit=None):
        self.copy: dict[int, int] = {}
        self.checkpoint: str | None = None
        self._s3, self._limit = s3, limit

    def call(self, step=lambda: None):
        """Apply what is new; `step` happens between all that can be told apart.

        Return whether there was anything.
        """
        client: Any = self._s3
        new = read_new("thing", self.checkpoint, client, "bucket", self._limit)
        for row in new.upserts.to_dict("records"):
            step()
            self.copy[row["thing_id"]] = row["version"]
        for row_id in new.deleted:
            step()
            self.copy.pop(row_id, None)
        step()
        is_news, self.checkpoint = new.checkpoint != self.checkpoint, new.checkpoint
        if not is_news:
            assert new.upserts.empty
            assert not new.deleted
        return is_news


def check_states(copy, table):
    """Each row of the copy is a state that the row has had."""
    assert all(version in table.had[row_id] for row_id, version in copy.items())


def dying(random, table):
    """Return a step in which other things happen, and which now and then is the last."""

    def step(_=None):
        if random.random() < 0.05:
            raise Died
        if random.random() < 0.7:
            table.step()

    return step


def play(seed, limits):
    random, s3 = Random(seed), MemoryS3()
    table = MovingTable(s3, random)
    step = dying(random, table)
    consumers = [Consumer(s3, limit) for limit in limits]
    for _ in range(40):
        for _ in range(random.randint(0, 5)):
            table.step()
        consumer = random.choice(consumers)
        try:
            s3.before = step
            consumer.call(step)
        except Died:
            pass
        s3.before = lambda _: None
        for each in consumers:
            check_states(each.copy, table)
    table.settle()
    for consumer in consumers:
        assert any(not consumer.call() for _ in range(MOST_CALLS))
        assert consumer.copy == table.rows
    return table, consumers


@pytest.mark.parametrize("examples", [8, pytest.param(300, marks=pytest.mark.long)])
def test_each_copy_is_the_table_in_the_end_and_has_had_states_before(examples):
    @settings(max_examples=examples, deadline=None, database=None, phases=[Phase.generate])
    @given(st.integers(0, 2**32), st.integers(1, 4))
    def test(seed, limit):
        play(seed, [None, 1, limit])

    test()


@pytest.mark.parametrize("limit", [None, 1, 3])
def test_a_consumer_that_dies_at_every_step_has_the_table_in_the_end(limit):
    s3 = MemoryS3()
    table = MovingTable(s3, Random(7))
    consumer = Consumer(s3, limit)
    deaths = 0
    for _ in range(6):
        for _ in range(12):
            table.step()
        table.settle()
        is_news = True
        while is_news:
            for point in count():
                steps = count()

                def step(_=None, steps=steps, point=point):
                    if next(steps) == point:
                        raise Died

                s3.before = step
                try:
                    is_news = consumer.call(step)
                    break
                except Died:
                    check_states(consumer.copy, table)
                    deaths += 1
        assert consumer.copy == table.rows
    assert deaths > 50
