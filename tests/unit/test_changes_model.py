"""Both streams in every interleaving of runs that may die at every step, over a table in motion.

A model, that is: a generator that reads like ingest.py, scans.py and changes.py. At the end it is
held against the real code: given the same answers, both make the same requests.
"""

from __future__ import annotations

import sys
from functools import cache, partial
from itertools import islice

import pytest

from tests.helpers.models.change_schedules import (
    Budget,
    Explorer,
    Key,
    Saved,
    Scan,
    Violation,
    start,
)
from tests.helpers.models.scripted import maximal, requests_of_model
from tests.helpers.models.scripted_changes import Time, requests_of_ingest

# Runs with a smaller limit have to go beyond it where a larger batch was claimed, and some run out
# of time: after so many batches, and after so many rows looked at for changes.
BATCH_ROWS = {"A": 2, "B": 1, "C": 3, "D": 3, "E": 3}
BATCHES = {"A": 2, "B": 1, "C": 9, "D": 9, "E": 9}
STRETCHES = {"A": 1, "B": 9, "C": 9, "D": 9, "E": 9}

# How many rows there are, what happens to the table, and how many rows have landed before.
SCENARIOS = {
    "an update": (1, Budget(updates=1)),
    "a long transaction": (1, Budget(transactions=1)),
    "a row appears": (1, Budget(inserts=1)),
    "updates after landing": (1, Budget(updates=2), 1),
    "a long transaction after landing": (1, Budget(transactions=1, updates=1), 1),
    "an update of one of two": (2, Budget(updates=1)),
    "an update of one of two after landing": (2, Budget(updates=1), 2),
    "a row appears after landing": (1, Budget(inserts=1, updates=1), 1),
}
LONG_SCENARIOS = {
    "two updates": (1, Budget(updates=2)),
    "a row appears and is updated": (1, Budget(inserts=1, updates=1)),
    "a long transaction and an update": (2, Budget(transactions=1, updates=1)),
    "a long transaction and an update after landing": (2, Budget(transactions=1, updates=1), 2),
    "three updates after landing": (1, Budget(updates=3), 1),
    "a row appears in a long transaction": (1, Budget(transactions=1, inserts=1), 1),
}


def run(name, faults=frozenset()):
    """One run over one table, request by request."""
    state = yield ("read state",)
    at = yield ("read latest",)
    base, next_xid, writes, highest = yield ("survey",)
    base = next_xid if "next xid as base" in faults else base
    before, all_ours = at, True
    has_news = highest > at
    if has_news:
        stored, (at, claimed) = at, (yield ("find position", at))
        before = at
        if not at and not claimed and not state and "opened after the rows" not in faults:
            state = yield from save(None, Saved(0, base, None))
        more = True
        for _ in range(BATCHES[name]):
            if claimed:
                ours = yield from adopt(at, claimed)
                at, all_ours = claimed.row_id, all_ours and ours
                stored = yield from save_latest(stored, at)
            at, claimed, ours, more = yield from batch(name, at)
            all_ours = all_ours and ours
            if not before and not state and "opened after the rows" in faults:
                state = yield from save(None, Saved(0, base, None))
            stored = yield from save_latest(stored, at)
            if not more:
                break
        if more and "not read to the end" not in faults:
            return
    if "mark after the rows" in faults:
        base, _, writes, _ = yield ("survey",)
    if state and not state.scan and state.writes == writes and not has_news:
        return
    if all_ours or "landed by others" in faults:
        yield from scan(name, state, Scan(base, writes, before, 0), faults)


def adopt(at, claimed):
    rows = yield ("read rows", at, claimed.row_id, None)
    return (yield ("create object", claimed, rows))


def batch(name, at):
    rows = yield ("read rows", at, None, BATCH_ROWS[name])
    ours, more = True, len(rows) == BATCH_ROWS[name]
    while rows and rows[-1][0] > at:
        claimed = Key(rows[-1][0], name)
        if not (yield ("create claim", at, claimed)):
            claimed = yield ("read claim", at)
        if claimed.row_id > rows[-1][0]:
            return at, claimed, False, True
        some = tuple(row for row in rows if at < row[0] <= claimed.row_id)
        ours = (yield ("create object", claimed, some)) and ours
        at = claimed.row_id
    return at, None, ours, more


def save_latest(stored, at):
    while at > stored:
        if (yield ("write latest", stored, at)):
            return at
        stored = yield ("read latest",)
    return stored


def scan(name, state, new, faults):
    known = state.sequence if state else 0
    number = known if "number not healed" in faults else (yield ("last change",))
    base, done_writes = (state.base, state.writes) if state else (None, None)
    if number and not state:
        base = yield ("base of change", number)
    going = (state.scan if state else None) or new
    if "saved too early" in faults:
        state = yield from save(state, Saved(number, going.base, going.writes))
    found = ()
    for _ in range(STRETCHES[name]):
        if going.above >= going.up_to:
            break
        rows = yield ("read changed", base, going.above, going.above + 1)
        if found and len(found + rows) > BATCH_ROWS[name]:
            number = yield from put(number + 1, found, base, faults)
            if not number:
                return
            found = ()
        found += rows
        going = going._replace(above=going.above + 1)
    if found:
        number = yield from put(number + 1, found, base, faults)
        if not number:
            return
    if going.above >= going.up_to:
        yield from save(state, Saved(number, going.base, going.writes), faults)
    else:
        yield from save(state, Saved(number, base, done_writes, going), faults)


def put(number, rows, base, faults):
    if "overwrites" in faults:
        yield ("overwrite change", number, rows, base)
        return number
    while not (yield ("create change", number, rows, base)):
        if "refused, so takes the next number" not in faults:
            return None
        number += 1
    return number


def save(state, saved, faults=frozenset()):
    if "state without If-Match" in faults:
        yield ("overwrite state", saved)
        return saved
    return saved if (yield ("write state", state, saved)) else state


def explore(program, scenario):
    sys.setrecursionlimit(10_000)  # a schedule of some hundred steps is followed by recursion
    explorer = Explorer(program)
    return explorer, explorer.schedules(start(*scenario))


@cache
def explored(scenario):
    """Explore a scenario once for all tests: what the run does in it, and the model against it."""
    return explore(run, scenario)


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_latest_version_of_every_row_is_in_one_of_the_streams(scenario, record_property):
    explorer, schedules = explored(scenario)
    record_property("states", len(explorer.states))
    record_property("schedules", schedules)
    print(f"{len(explorer.states):,} states, {schedules:,} schedules")
    assert len(explorer.states) > 500


@pytest.mark.long
@pytest.mark.parametrize("scenario", LONG_SCENARIOS.values(), ids=LONG_SCENARIOS)
def test_the_latest_version_is_in_one_of_the_streams_in_more_schedules(scenario, record_property):
    test_the_latest_version_of_every_row_is_in_one_of_the_streams(scenario, record_property)


FAULTS = {
    "next xid as base": "a long transaction",
    "mark after the rows": "an update",
    "not read to the end": "an update of one of two",
    "landed by others": "an update",
    "opened after the rows": "an update",
    "number not healed": "updates after landing",
    "saved too early": "an update",
    "overwrites": "updates after landing",
    "refused, so takes the next number": "updates after landing",
}


@pytest.mark.parametrize(("fault", "scenario"), FAULTS.items(), ids=FAULTS)
def test_a_broken_protocol_is_found_out(fault, scenario):
    with pytest.raises(Violation):
        explore(partial(run, faults=frozenset({fault})), SCENARIOS[scenario])


@pytest.mark.parametrize("scenario", ["an update", "updates after landing"])
def test_it_does_not_matter_who_writes_the_state_last(scenario):
    """What it says stays true: If-Match only spares repeats."""
    explore(partial(run, faults=frozenset({"state without If-Match"})), SCENARIOS[scenario])


def hold_against_the_code(scenario, monkeypatch, share):
    explorer, _ = explored(scenario)
    compared = 0
    for name, history in islice(maximal(explorer.histories), 0, None, share):
        time = Time(BATCHES[name], STRETCHES[name])
        made = requests_of_ingest(name, BATCH_ROWS[name], time, history, monkeypatch)
        assert made == requests_of_model(run, name, history)
        compared += 1
    return compared


# Every so-many-th history, so that it takes a second or so; together they meet all there is.
SHARES = {
    "an update": 5,
    "updates after landing": 1,
    "an update of one of two after landing": 1,
    "a row appears after landing": 5,
}


@pytest.mark.parametrize(("scenario", "share"), SHARES.items(), ids=SHARES)
def test_the_code_makes_the_same_requests_as_the_model(scenario, share, monkeypatch):
    assert hold_against_the_code(SCENARIOS[scenario], monkeypatch, share) > 50


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_code_makes_the_same_requests_as_the_model_always(scenario, monkeypatch):
    assert hold_against_the_code(scenario, monkeypatch, share=1) > 50
