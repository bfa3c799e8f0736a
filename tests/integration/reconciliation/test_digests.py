"""Digests: the server's and ours are the same, and they tell sets of ids apart."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.reconciliation.digests import Digest, digest
from services.reconciliation.ids import LOWEST_ID
from services.reconciliation.source_ids import read_digest
from shared.tables import Table

pytestmark = pytest.mark.thorough

HIGHEST_ID = 2**63 - 1
IDS = st.lists(
    st.integers(1, 50) | st.integers(LOWEST_ID + 1, HIGHEST_ID) | st.integers(2**31 - 5, 2**31 + 5)
)


@pytest.fixture
def table(database):
    connection = database.connect()
    connection.run("CREATE TABLE thing (thing_id bigint)")
    return connection


def server_says(connection, ids):
    connection.run("TRUNCATE thing")
    connection.run("INSERT INTO thing SELECT unnest(CAST(:ids AS bigint[]))", ids=ids)
    return read_digest(Table("thing"), LOWEST_ID, HIGHEST_ID, connection)


def test_server_and_service_agree_on_any_ids(table):
    @settings(max_examples=100)
    @given(IDS)
    def check(ids):
        assert server_says(table, ids) == digest(np.array(ids, np.int64))

    check()
    assert server_says(table, []) == Digest()


@given(IDS, IDS)
def test_digests_add_up(some, others):
    together = digest(np.array(some + others, np.int64))
    assert digest(np.array(some, np.int64)).plus(digest(np.array(others, np.int64))) == together


@pytest.mark.parametrize(
    ("some", "others"),
    [
        ([1, 5, 6], [2, 3, 7]),  # the same sum, and the same sum of squares
        ([1, 5, 8, 12], [2, 3, 10, 11]),  # of cubes, too
        ([1, 2, 2], [1, 1, 3]),
        ([2**31, 1], [2**31 - 1, 2]),
        ([1 + (2**31 - 1), 7], [1, 7 + (2**31 - 1)]),  # the same remainders
    ],
)
def test_sets_that_are_alike_are_told_apart(some, others):
    assert digest(np.array(some)) != digest(np.array(others))


@given(st.sets(st.integers(1, 1000), min_size=2), st.data())
def test_one_row_that_takes_the_place_of_another_is_told(ids, data):
    gone = data.draw(st.sampled_from(sorted(ids)))
    new = data.draw(st.integers(1, 1000).filter(lambda row_id: row_id not in ids))
    changed = (ids - {gone}) | {new}
    assert digest(np.array(sorted(ids))) != digest(np.array(sorted(changed)))
