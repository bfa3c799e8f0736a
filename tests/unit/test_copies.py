"""Which objects of a table count, by the keys of its claims and as few of the claims as will do."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from shared.bucket import keys
from shared.bucket.bucket import StoredObject
from shared.tables import Table
from tools.copies import claimed_keys

THING = Table("thing")
TIMES = ("2026-11-26T17-55-02", "2026-11-26T17-55-03")


def key(row_id, time):
    return keys.format_data_key(THING, row_id, TIMES[time])


class Claims:
    """The claims of a bucket; counts how many are read."""

    def __init__(self, named):
        self.bodies = {keys.format_claim_key(THING, above): to for above, to in named.items()}
        self.read = 0

    def keys(self, _folder):
        return [*self.bodies, "claims/thing/notes.txt"]

    def get(self, claim):
        self.read += 1
        return StoredObject(json.dumps({"key": self.bodies[claim]}).encode(), "")


ends = st.sets(st.integers(1, 30), max_size=8).map(sorted)
strays = st.sets(st.builds(key, st.integers(1, 35), st.sampled_from([0, 1])), max_size=8)


@given(ends, strays, st.booleans())
def test_those_count_that_a_claim_names(ends, strays, last_has_landed):
    named = {above: key(end, 0) for above, end in pairwise([0, *ends])}
    landed = set(named.values())
    if ends and not last_has_landed:
        landed.remove(key(ends[-1], 0))
    strays -= set(named.values())
    claims: Any = Claims(named)
    assert claimed_keys(THING, [*landed, *strays], claims) == landed
    # One to be sure of the end, and one for each end that several objects have.
    assert claims.read <= 1 + len({keys.parse_data_key(stray).row_id for stray in strays})


def test_without_a_claim_none_counts():
    claims: Any = Claims({})
    assert claimed_keys(THING, [key(5, 0)], claims) == set()
    assert claims.read == 0
