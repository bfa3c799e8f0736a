"""A load, in every interleaving: its claims stand before their batches land, in any order.

Workers and planners of a load, and runs of another batch size, die at every step; latest.json is
lost or put back, a claim is lost and restored. In the end each row has landed once, by normal runs
alone. While a claim is lost, they may fail, and name it. Each rule is left out once, and missed.

At the end the model is held against `ingest` and `plan_load`: given the same answers, they make the
same requests.
"""

from __future__ import annotations

from contextlib import suppress

import pytest

from tests.helpers.models import claim_programs
from tests.helpers.models.claim_programs import (
    BATCH_ROWS,
    ONE_BATCH_A_CALL,
    plan,
    run,
    work,
)
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
from tests.helpers.models.scripted import (
    maximal,
    requests_of_ingest,
    requests_of_model,
    requests_of_plan,
)

# Who goes first: a run A or B, planners P and Q, workers V and W; how many rows; what may happen;
# where the batches end that are claimed already.
SCENARIOS = {
    "two workers and a run": ("VWA", 3, Budget(), (1, 2, 3)),
    "latest.json disturbed": ("VA", 3, Budget(disturb=1), (2, 3)),
    "a claim lost": ("VA", 3, Budget(lose=1), (1, 2)),
    "a planner and a run": ("PA", 3, Budget(), ()),
    "two planners and a worker": ("PQV", 2, Budget(), ()),
    "two planners, a claim lost": ("PQ", 3, Budget(lose=1), ()),
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
    "two planners, a row appears, a claim lost": ("PQ", 2, Budget(appear=1, lose=1), (1,)),
    "a planner and a run, a row appears": ("PA", 2, Budget(appear=1), ()),
    "a planner and a run, a row deleted": ("PA", 2, Budget(vanish=1), ()),
    "a planner and a run, latest.json disturbed": ("PA", 3, Budget(disturb=1), (1,)),
    "a planner, a worker and a run": ("PVA", 2, Budget(), ()),
    "a planner in several calls and a run, a claim lost": ("QA", 3, Budget(lose=1), (1,)),
}  # fmt: skip
ALL_SCENARIOS = SCENARIOS | LONG_SCENARIOS
PLANNERS = {"P", "Q"}


def load(name):
    """Return what a run of this name does."""
    planner = claim_programs.plan  # as it is now: a rule may be left out
    return {"P": planner, "Q": planner, "V": work, "W": work, "X": work}.get(name, run)(name)


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


def call_again_and_know_the_end():
    yield ("call again",)
    return True


def plan_without_a_look(name):
    """Claim where the listed chain ends, which was true a moment ago."""
    planner, answer = plan(name), None
    with suppress(StopIteration):
        while True:
            request = planner.send(answer)
            answer = (
                ()
                if request[0].startswith(("look for claims", "look for objects"))
                else (yield request)
            )


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
    "a planner does not look": (
        {"plan": plan_without_a_look}, ("PA", 2, Budget(lose=1), (1,)), ONCE,
    ),
    "a planner's next call knows what the last one knew": (
        {"call_again": call_again_and_know_the_end}, ("QA", 3, Budget(lose=1), ()), ONCE,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("changes", "scenario", "promise"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_rule_that_is_left_out_is_found_out(changes, scenario, promise, monkeypatch):
    for name, changed in changes.items():
        monkeypatch.setattr(claim_programs, name, changed)
    explorer = Explorer(load, frozenset({promise}))
    with pytest.raises(Violation, match=promise):
        explorer.schedules(start(*scenario))


def hold_against_the_code(scenario, monkeypatch, share):
    """Compare the requests of runs and planners; return how many histories were compared."""
    explorer, _ = explore(scenario)
    histories = [each for each in maximal(explorer.histories) if each[0] in BATCH_ROWS]
    for name, history in histories[::share]:
        asked = (name, BATCH_ROWS[name], history, monkeypatch)
        made = (
            requests_of_plan(*asked, one_batch_a_call=name in ONE_BATCH_A_CALL)
            if name in PLANNERS
            else requests_of_ingest(*asked)
        )
        assert made == requests_of_model(load, name, history)
    return len(histories[::share])


@pytest.mark.thorough
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_code_makes_the_same_requests_as_the_model(scenario, monkeypatch):
    assert hold_against_the_code(scenario, monkeypatch, share=5) > 10


@pytest.mark.long
@pytest.mark.parametrize("scenario", ALL_SCENARIOS.values(), ids=ALL_SCENARIOS)
def test_the_code_makes_the_same_requests_as_the_model_always(scenario, monkeypatch):
    assert hold_against_the_code(scenario, monkeypatch, share=1) > 10
