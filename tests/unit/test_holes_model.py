"""A load, in every interleaving: its claims stand before their batches land, in any order.

Workers and planners of a load, and runs of another batch size, die at every step; latest.json is
lost or put back, a claim is lost and restored. In the end each row has landed once, by normal runs
alone. While a claim is lost, they may fail, and name it. Each rule is left out once, and missed.
"""

from __future__ import annotations

import pytest

from tests.helpers.models import claim_programs
from tests.helpers.models.claim_programs import plan, run, work
from tests.helpers.models.interleavings import (
    ALL,
    CHAIN,
    NAMED,
    ONCE,
    Budget,
    Damaged,
    Explorer,
    Violation,
    start,
)

# Who goes first: a run A or B, planners P and Q, workers V and W; how many rows; what may happen;
# where the batches end that are claimed already.
SCENARIOS = {
    "two workers and a run": ("VWA", 3, Budget(), (1, 2, 3)),
    "latest.json disturbed": ("VA", 3, Budget(disturb=1), (2, 3)),
    "a claim lost": ("VA", 3, Budget(lose=1), (1, 2)),
    "a planner and a run": ("PA", 3, Budget(), ()),
    "two planners and a worker": ("PQV", 2, Budget(), ()),
}
LONG_SCENARIOS = {
    "a planner goes on, a claim lost": ("PA", 3, Budget(lose=1), (1, 2)),
    "a claim lost, latest.json disturbed": ("VA", 3, Budget(lose=1, disturb=1), (1, 2)),
    "three workers, latest.json disturbed": ("VWX", 4, Budget(disturb=1), (1, 2, 4)),
    "two workers and a run of one row, latest.json disturbed": (
        "VWB", 3, Budget(disturb=1), (1, 3),
    ),
    "two workers and a run, a claim lost": ("VWA", 3, Budget(lose=1), (1, 3)),
    "a row deleted": ("VWA", 3, Budget(vanish=1), (1, 3)),
    "two runs and a worker": ("VAB", 2, Budget(), (1, 2)),
    "two planners, latest.json disturbed": ("PQ", 3, Budget(disturb=1), (1,)),
}  # fmt: skip


def load(name):
    """Return what a run of this name does."""
    return {"P": plan, "Q": plan, "V": work, "W": work, "X": work}.get(name, run)(name)


def explore(scenario, program=load):
    explorer = Explorer(program)
    return explorer, explorer.schedules(start(*scenario))


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_each_row_lands_once(scenario, record_property):
    explorer, schedules = explore(scenario)
    record_property("states", len(explorer.states))
    print(f"{len(explorer.states):,} states, {schedules:,} schedules")
    assert len(explorer.states) > 500


@pytest.mark.long
@pytest.mark.parametrize("scenario", LONG_SCENARIOS.values(), ids=LONG_SCENARIOS)
def test_each_row_lands_once_in_more_schedules(scenario, record_property):
    test_each_row_lands_once(scenario, record_property)


def heal_by_the_highest_key(at, stored):
    if stored is None and (objects := (yield ("list objects",))):
        at = claim_programs.latest(max(objects), (yield ("head", max(objects))))
    return (yield from heal_from_the_beginning(at, stored))


def heal_past_a_hole(at, stored):
    """Go on from the end of what is claimed, whatever has landed."""
    while claimed := (yield ("read claim", at.row_id)):
        at = claim_programs.latest(claimed, (yield ("head", claimed)) or 0)
    return at, None


def heal_from_the_beginning(at, stored):
    """Take the front literally: no claim is the end, whatever was listed behind it."""
    while claimed := (yield ("read claim", at.row_id)):
        rows = yield ("head", claimed)
        if rows is None:
            break
        at = claim_programs.latest(claimed, rows)
    return at, claimed


def look_at_nothing(row_id, highest):
    return
    yield


def look_at_claims_only(row_id, highest):
    claims = yield ("look for claims", row_id + 1)
    if claims and (yield ("read claim", row_id)) is None:
        raise Damaged(row_id)


def look_at_objects_only(row_id, highest):
    objects = yield ("look for objects", row_id + 1)
    if objects and (yield ("read claim", row_id)) is None:
        raise Damaged(row_id)


def look_without_a_second_look(row_id, highest):
    if (yield ("look for claims", row_id + 1)) or (yield ("look for objects", row_id + 1)):
        raise Damaged(row_id)


def claim_and_keep_to_our_own(row_id, key):
    yield ("create claim", row_id, key)
    return key, True


def claim_and_know_the_end_of_others(row_id, key):
    if (yield ("create claim", row_id, key)):
        return key, True
    return (yield ("read claim", row_id)) or key, True


LOST = ("VA", 3, Budget(lose=1), (1, 2))
BACK = ("V", 3, Budget(disturb=1), (1, 2))
MUTATIONS = {
    "the highest key": ({"heal": heal_by_the_highest_key}, BACK, ALL),
    "the end of what is claimed": ({"heal": heal_past_a_hole}, BACK, ALL),
    "the front taken literally": (
        {"heal": heal_from_the_beginning, "look": look_at_nothing}, LOST, ONCE,
    ),
    "no look before claiming": ({"look": look_at_nothing}, LOST, ONCE),
    "a look at claims only": (
        {"look": look_at_claims_only}, ("A", 2, Budget(lose=1, disturb=1), (1,)), ONCE,
    ),
    "a look at objects only": (
        {"look": look_at_objects_only}, ("A", 3, Budget(lose=1), (1, 2, 3)), ONCE,
    ),
    "what another run claims while we look counts as lost": (
        {"look": look_without_a_second_look}, ("PA", 3, Budget(), ()), NAMED,
    ),
    "a planner keeps to its own claims": (
        {"claim": claim_and_keep_to_our_own}, ("PQ", 3, Budget(), ()), CHAIN,
    ),
    "behind the claims of others nobody looks": (
        {"claim": claim_and_know_the_end_of_others}, ("PA", 3, Budget(lose=1), ()), ONCE,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "scenario", "promise"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_rule_that_is_left_out_is_found_out(changes, scenario, promise, monkeypatch):
    for name, changed in changes.items():
        monkeypatch.setattr(claim_programs, name, changed)
    explorer = Explorer(load, frozenset({promise}))
    with pytest.raises(Violation, match=promise):
        explorer.schedules(start(*scenario))
