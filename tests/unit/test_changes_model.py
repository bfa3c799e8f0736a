"""Both streams in every interleaving of runs that may die at every step, over a table in motion.

A model, that is: a generator that reads like ingest.py, scans.py and changes.py.
"""

from __future__ import annotations

import sys
from functools import partial

import pytest

from tests.helpers.change_schedules import Budget, Explorer, Key, Saved, Scan, Violation, start

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
            at, claimed, ours, more = yield from batch(name, at, claimed)
            all_ours = all_ours and ours
            if not before and not state and "opened after the rows" in faults:
                state = yield from save(None, Saved(0, base, None))
            if at > stored and (yield ("write latest", stored, at)):
                stored = at
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


def batch(name, at, claimed):
    ours = True
    if claimed:
        rows = yield ("read rows", at, claimed.row_id, None)
        ours = yield ("create object", claimed, rows)
        at = claimed.row_id
    rows = yield ("read rows", at, None, BATCH_ROWS[name])
    more, claimed = len(rows) == BATCH_ROWS[name], None
    while rows and rows[-1][0] > at:
        claimed = Key(rows[-1][0], name)
        if not (yield ("create claim", at, claimed)):
            claimed = yield ("read claim", at)
        if claimed.row_id > rows[-1][0]:
            return at, claimed, False, True
        some = tuple(row for row in rows if at < row[0] <= claimed.row_id)
        ours = (yield ("create object", claimed, some)) and ours
        at, claimed = claimed.row_id, None
    return at, claimed, ours, more


def scan(name, state, new, faults):
    known = state.sequence if state else 0
    number = known if "number not healed" in faults else (yield ("last change",))
    base, done_writes = (state.base, state.writes) if state else (None, None)
    going = (state.scan if state else None) or new
    if "saved too early" in faults:
        state = yield from save(state, Saved(number, going.base, going.writes))
    for _ in range(STRETCHES[name]):
        if going.above >= going.up_to:
            break
        rows = yield ("read changed", base, going.above, going.above + 1)
        if rows:
            number = yield from put(number + 1, rows, faults)
            if not number:
                return
        going = going._replace(above=going.above + 1)
    if going.above >= going.up_to:
        yield from save(state, Saved(number, going.base, going.writes), faults)
    else:
        yield from save(state, Saved(number, base, done_writes, going), faults)


def put(number, rows, faults):
    if "overwrites" in faults:
        yield ("overwrite change", number, rows)
        return number
    while not (yield ("create change", number, rows)):
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


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_latest_version_of_every_row_is_in_one_of_the_streams(scenario, record_property):
    explorer, schedules = explore(run, scenario)
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
