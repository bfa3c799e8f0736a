"""Which objects count and in which order, by as few of the claims as will do."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bucket import keys
from shared.bucket.bucket import Bucket
from shared.bucket.chain import claimed_keys, consecutive_keys
from shared.errors import StateError
from shared.tables import Table
from tests.helpers.models.memory_s3 import MemoryS3

THING = Table("thing")
TIMES = ("2026-11-26T17-55-02", "2026-11-26T17-55-03")


def key(row_id, time=0):
    return keys.format_data_key(THING, row_id, TIMES[time])


def bucket_of(named, objects):
    """Return a bucket with claims, what they name, and empty objects."""
    client: Any = MemoryS3()
    for above, name in named.items():
        client.put(keys.format_claim_key(THING, above), json.dumps({"key": name}).encode())
    for name in objects:
        client.put(name, b"")
    return Bucket(client, "bucket"), client


ends = st.sets(st.integers(1, 30), max_size=8).map(sorted)
strays = st.sets(st.builds(key, st.integers(1, 35), st.sampled_from([0, 1])), max_size=8)


@given(ends, strays, st.booleans(), st.sampled_from([0, 1, 3, 100]))
def test_those_count_that_a_claim_names_in_the_order_of_the_ids(ends, strays, has_landed, steps):
    chain = [key(end) for end in ends]
    named = {above: key(end) for above, end in pairwise([0, *ends])}
    landed = chain if has_landed else chain[:-1]
    strays -= set(chain)
    bucket, client = bucket_of(named, [*landed, *strays])
    assert list(claimed_keys(THING, 0, bucket, most_steps=steps)) == chain
    if not steps:
        # The last one, to be sure of the end, and those in whose range strays end.
        assert client.requests["GetObject"] <= 2 + len(strays)


@given(ends.filter(lambda ends: len(ends) > 2), st.data())
def test_a_claim_that_is_missing_before_others_is_named(ends, data):
    named = {above: key(end) for above, end in pairwise([0, *ends])}
    lost = data.draw(st.sampled_from([*named][:-1]))
    bucket, _ = bucket_of({above: named[above] for above in named if above != lost}, named.values())
    claim = keys.format_claim_key(THING, lost)
    with pytest.raises(StateError, match=rf"s3://bucket/{claim} is missing, .* Restore"):
        list(claimed_keys(THING, 0, bucket, most_steps=0))


def test_without_a_claim_no_object_counts():
    bucket, _ = bucket_of({}, [key(5)])
    assert list(claimed_keys(THING, 0, bucket, most_steps=0)) == []


def test_a_change_that_is_missing_before_others_is_named():
    bucket, _ = bucket_of({}, [])
    listed = [keys.format_change_key(THING, number) for number in (3, 4, 6)]
    found = consecutive_keys(THING, 2, listed, bucket)
    assert [next(found), next(found)] == listed[:2]
    with pytest.raises(StateError, match=r"changes/thing/0000000005\.jsonl is missing"):
        next(found)
