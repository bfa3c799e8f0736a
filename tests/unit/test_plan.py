"""The items of a load: each batch in one of them, and no more items than the state may hold."""

from __future__ import annotations

import json
from dataclasses import asdict
from itertools import accumulate, pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingestion.loads import Load, outcome, requested_item, requested_load
from services.ingestion.plan import MOST_ITEMS, pack
from shared.bucket.planned import Planned
from shared.errors import EventError
from shared.tables import TABLES

STATE_BYTES = 256 * 1024
LONGEST = max(TABLES, key=len)
CAUGHT = "Lambda.ClientExecutionTimeoutException"


def chain(lengths):
    """Batches of which some have landed: those of an even length."""
    bounds = list(accumulate(lengths, initial=0))
    return [Planned(above, up_to, (up_to - above) % 2 == 0) for above, up_to in pairwise(bounds)]


@given(st.lists(st.integers(1, 9), max_size=60), st.integers(1, 8))
def test_each_pending_batch_is_in_one_item(lengths, most):
    pending = [batch for batch in chain(lengths) if not batch.has_landed]
    items = pack("payment", pending, most)
    covering = [
        [item for item in items if item.above <= batch.above and batch.up_to <= item.up_to]
        for batch in pending
    ]
    assert all(len(each) == 1 for each in covering)
    assert len(items) <= most
    bounds = [bound for item in items for bound in (item.above, item.up_to)]
    assert bounds == sorted(bounds)
    counts = [sum(each == [item] for each in covering) for item in items]
    assert all(counts)
    assert counts == sorted(counts, reverse=True)  # only the last may be smaller


def test_a_billion_rows_fit_into_the_state_before_and_after_the_map():
    high = 2**63 - 20_001
    batches = [Planned(high + n, high + n + 1, has_landed=False) for n in range(20_000)]
    items = [asdict(item) for item in pack(LONGEST, batches)]
    assert len(items) == MOST_ITEMS
    planned = asdict(Load(LONGEST, 1000, high, high)) | {"more": False, "items": items}
    landed = [item | {"rows": 10**9, "batches": 20, "more": False} for item in items]
    failed = [item | {"error": CAUGHT} for item in items]
    for state in (planned, landed, failed):
        assert len(json.dumps(state, separators=(",", ":"))) < 0.75 * STATE_BYTES


@pytest.mark.parametrize(
    "asked",
    [
        None,
        "payment",
        {"table": "payment", "limit": 3},
        {"table": "payments"},
        {"table": ["payment"]},
        {},
        {"table": "payment", "workers": 0},
        {"table": "payment", "workers": 1001},
        {"table": "payment", "workers": "8"},
        {"table": "payment", "workers": True},
        {"table": "payment", "up_to": "5000", "above": 0},
        {"table": "payment", "up_to": 5000},
    ],
    ids=repr,
)
def test_a_load_that_can_not_be_is_refused(asked):
    with pytest.raises(EventError, match=r"To load a table|Unknown table|workers must be|up_to"):
        requested_load({"plan": asked})


def test_a_load_needs_a_table_only():
    assert requested_load({"plan": {"table": "payment"}}) == Load("payment", 8)
    again = {"table": "payment", "workers": 3, "up_to": 9, "above": 5, "more": True}
    assert requested_load({"plan": again}) == Load("payment", 3, up_to=9, above=5)


@pytest.mark.parametrize("table", ["payments", None])
def test_items_are_of_a_known_table(table):
    item = {"table": table, "above": 0, "up_to": 5}
    with pytest.raises(EventError, match="Unknown table"):
        requested_item({"land": item})
    with pytest.raises(EventError, match="Unknown table"):
        outcome({"finish": {"table": table, "items": []}})
