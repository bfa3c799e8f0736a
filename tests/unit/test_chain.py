"""Which objects count and in which order, by as few of the claims as will do."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from threading import Barrier
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bucket import keys
from shared.bucket.bucket import Bucket
from shared.bucket.chain import check_end, consecutive_keys, follow_claims
from shared.errors import LandingUnavailableError, StateError
from shared.tables import Table
from tests.helpers.models.memory_s3 import MemoryS3
from tests.helpers.models.scripted import s3_error

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


def followed(bucket, steps):
    """Return the keys along the chain, and those that are known to have landed."""
    batches = list(follow_claims(THING, 0, bucket, most_steps=steps))
    return [batch.key for batch in batches], {batch.key for batch in batches if batch.is_listed}


ends = st.sets(st.integers(1, 130), max_size=8).map(sorted)
strays = st.sets(st.builds(key, st.integers(1, 130), st.sampled_from([0, 1])), max_size=8)
steps = st.sampled_from([0, 1, 3, 100])


@given(ends, strays, steps, st.data())
def test_the_claims_are_followed_whatever_has_landed(ends, strays, steps, data):
    chain = [key(end) for end in ends]
    named = {above: key(end) for above, end in pairwise([0, *ends])}
    landed = data.draw(st.sets(st.sampled_from(chain or [""]))) - {""}
    last = ends[-1] if ends else 0
    strays = {stray for stray in strays - set(chain) if keys.parse_data_key(stray).row_id <= last}
    bucket, client = bucket_of(named, [*landed, *strays])
    found, is_listed = followed(bucket, steps)
    assert found == chain
    assert is_listed == (landed & set(chain[steps:]))
    if not steps:  # only claims whose objects have not landed, and the one that is not there
        assert client.requests["GetObject"] == len(chain) - len(landed) + 1


@given(ends.filter(bool), steps, st.data())
def test_a_claim_that_is_missing_before_others_or_objects_is_named(ends, steps, data):
    named = {above: key(end) for above, end in pairwise([0, *ends])}
    lost = data.draw(st.sampled_from([*named]))
    behind = [claimed for above, claimed in named.items() if above >= lost]
    landed = data.draw(st.sets(st.sampled_from([*named.values()])))
    has_claims_behind = lost != [*named][-1]
    has_behind = has_claims_behind or landed & set(behind)
    left = {above: claimed for above, claimed in named.items() if above != lost}
    bucket, _ = bucket_of(left, landed)
    claim = keys.format_claim_key(THING, lost)
    if has_claims_behind and steps <= [*named].index(lost):
        with pytest.raises(StateError, match=rf"s3://bucket/{claim} is missing, .* Restore"):
            followed(bucket, steps)
    else:
        assert followed(bucket, steps)[0] == [each for each in named.values() if each not in behind]
    for highest in (None, ends[-1], 10**6):
        if has_behind:
            with pytest.raises(StateError, match=rf"s3://bucket/{claim} is missing, .* Restore"):
                check_end(THING, lost, highest, bucket)
        else:
            check_end(THING, lost, highest, bucket)


def test_before_a_claim_only_what_is_near_is_listed():
    """A year has 50,000 keys, and a page 1,000."""
    ends = range(1, 12_000)
    named = {above: key(end) for above, end in pairwise([0, *ends])}
    bucket, client = bucket_of(named, named.values())
    for highest, requests in ((12_004, 2), (100_004, 4 + 24)):
        client.requests.clear()
        check_end(THING, 11_999, highest, bucket)
        assert client.requests["ListObjectsV2"] <= requests
    assert client.requests["GetObject"] == 0


def test_what_is_claimed_and_lands_while_we_look_is_no_loss():
    bucket, client = bucket_of({}, [])

    def land(request):
        if request == f"ListObjectsV2 {keys.data_folder(THING)}":
            client.put(keys.format_claim_key(THING, 0), json.dumps({"key": key(5)}).encode())
            client.put(key(5), b"")

    client.before = land
    check_end(THING, 0, 9, bucket)
    assert client.requests["GetObject"] == 1


def encrypted(named, objects):
    """Return a bucket as above, in which no claim has the ETag of its content.

    A key of KMS encrypts it, or somebody put the claims back by hand.
    """
    bucket, client = bucket_of({}, objects)
    for above, name in named.items():
        client.put(keys.format_claim_key(THING, above), f'{{"key":"{name}"}}'.encode())
    return bucket, client


def claims_read(client):
    """Return the list in which the ids appear above which claims are read, from now on."""
    starts = []

    def note(request):
        operation, _, name = request.partition(" ")
        if operation == "GetObject":
            starts.append(keys.parse_claim_key(name).row_id)

    client.before = note
    return starts


def test_where_claims_have_other_etags_they_are_read():
    named = {above: key(end) for above, end in pairwise([0, 3, 5, 9])}
    bucket, _ = encrypted(named, [key(3), key(9), key(5, 1)])
    assert followed(bucket, 0) == ([*named.values()], {key(3), key(9)})


@given(ends, strays, steps, st.data())
def test_each_of_these_is_read_once_whatever_has_landed(ends, strays, steps, data):
    named = {above: key(end) for above, end in pairwise([0, *ends])}
    landed = data.draw(st.sets(st.sampled_from([*named.values()]))) if named else set()
    bucket, client = encrypted(named, landed | strays)
    read = claims_read(client)
    found, is_listed = followed(bucket, steps)
    assert found == [*named.values()]
    assert is_listed == (landed | strays) & {*found[steps:]}
    assert sorted(read) == [*named, ends[-1] if ends else 0]


LONG_CHAIN = {above: key(above + 1) for above in range(2_500)}


def test_of_a_long_chain_the_claims_are_read_side_by_side():
    """Of the first ten none is answered before all are asked for."""
    bucket, client = encrypted(LONG_CHAIN, LONG_CHAIN.values())
    read, all_asked = claims_read(client), Barrier(10, timeout=30)

    def wait(request):
        note(request)
        if request.startswith("GetObject") and len(read) <= 10:
            all_asked.wait()

    note, client.before = client.before, wait
    assert followed(bucket, 0) == ([*LONG_CHAIN.values()], {*LONG_CHAIN.values()})
    assert sorted(read) == [*range(2_501)]


def test_what_has_not_landed_is_read_only_by_whoever_comes_to_it():
    """As position does, which stops at the first hole, and a load that is under way has many."""
    landed = {above: name for above, name in LONG_CHAIN.items() if above < 50 or above % 500 == 0}
    bucket, client = encrypted(LONG_CHAIN, landed.values())
    read = claims_read(client)
    chain = follow_claims(THING, 20, bucket, most_steps=5)
    assert [batch.key for batch in islice(chain, 31)] == [key(end) for end in range(21, 52)]
    assert sorted(read) == [*range(20, 51)]


def test_whoever_stops_has_not_had_the_whole_chain_read():
    bucket, client = encrypted(LONG_CHAIN, LONG_CHAIN.values())
    read = claims_read(client)
    next(follow_claims(THING, 0, bucket, most_steps=0))
    assert 0 in read
    assert len(read) < 1_000


def test_what_lies_before_the_beginning_is_not_looked_at():
    bucket, client = encrypted(LONG_CHAIN, LONG_CHAIN.values())
    assert [*follow_claims(THING, 2_500, bucket, most_steps=0)] == []
    assert client.requests == {"ListObjectsV2": 3, "GetObject": 1}  # pages of the claims only


@pytest.mark.parametrize("name", ["no key", key(3), "other/9-2026-11-26T17-55-02.jsonl"])
def test_a_claim_that_is_not_valid_stops_whoever_comes_to_it(name):
    """The claims before it lead there, though they are read side by side with it."""
    chain = {above: key(above + 1) for above in range(9)}
    bucket, _ = encrypted(chain | {5: name}, chain.values())
    found = follow_claims(THING, 0, bucket, most_steps=0)
    assert [batch.key for batch in islice(found, 5)] == [key(end) for end in range(1, 6)]
    with pytest.raises(StateError, match=r"claims/thing/5\.json is not a valid claim"):
        next(found)


def test_a_batch_is_not_told_from_where_the_next_claim_begins():
    """The claim between the two is lost, and rows 4 and 5 would never be read."""
    bucket, _ = encrypted({0: key(3), 5: key(9)}, [key(3), key(5), key(9)])
    chain = follow_claims(THING, 0, bucket, most_steps=0)
    assert next(chain).key == key(3)
    with pytest.raises(StateError, match=r"claims/thing/3\.json is missing"):
        next(chain)


def test_a_refusal_of_s3_is_no_claim_that_is_missing():
    bucket, client = encrypted(LONG_CHAIN, LONG_CHAIN.values())

    def fail(request):
        if request == f"GetObject {keys.format_claim_key(THING, 500)}":
            raise s3_error("SlowDown", 503)

    client.before = fail
    with pytest.raises(LandingUnavailableError, match=r"/500\.json"):
        followed(bucket, 0)


@pytest.mark.parametrize("steps", [0, 100])
def test_a_claim_that_leads_back_is_not_followed(steps):
    bucket, _ = bucket_of({0: key(3), 3: key(5), 5: key(3)}, [key(3), key(5)])
    with pytest.raises(StateError, match=r"claims/thing/5\.json is not a valid claim"):
        followed(bucket, steps)


def test_a_change_that_is_missing_before_others_is_named():
    bucket, _ = bucket_of({}, [])
    listed = [keys.format_change_key(THING, number) for number in (3, 4, 6)]
    found = consecutive_keys(THING, 2, listed, bucket)
    assert [next(found), next(found)] == listed[:2]
    with pytest.raises(StateError, match=r"changes/thing/0000000005\.jsonl is missing"):
        next(found)
