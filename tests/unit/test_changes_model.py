"""Both streams in every interleaving of runs that may die at every step, over a table in motion.

A model, that is: a generator that reads like ingest.py, scans.py and changes.py. At the end it is
held against the real code: given the same answers, both make the same requests.
"""

from __future__ import annotations

from functools import cache, partial
from itertools import islice

import pytest

from tests.helpers.models.change_programs import (
    BATCH_ROWS,
    BATCHES,
    STRETCHES,
    restore,
    run,
    work,
)
from tests.helpers.models.change_schedules import Budget, Explorer, Violation, start
from tests.helpers.models.scripted import maximal, requests_of_model
from tests.helpers.models.scripted_changes import Time, requests_of_ingest

# How many rows there are, what happens to the table, and how many rows have landed before.
SCENARIOS = {
    "an update": (1, Budget(updates=1)),
    "a row appears": (1, Budget(inserts=1)),
    "updates after landing": (1, Budget(updates=2), 1),
    "a long transaction after landing": (1, Budget(transactions=1, updates=1), 1),
    "an update of one of two after landing": (2, Budget(updates=1), 2),
    "a row appears after landing": (1, Budget(inserts=1, updates=1), 1),
    "declared anew": (1, Budget(declarations=1)),
    "declared anew after landing": (1, Budget(declarations=1), 1),
    "declared anew and updated": (1, Budget(declarations=1, updates=1), 1),
    "declared anew twice": (1, Budget(declarations=2), 1),
    "declared anew, two rows": (2, Budget(declarations=1), 2),
}
LONG_SCENARIOS = {
    "an update of one of two": (2, Budget(updates=1)),
    "a long transaction": (1, Budget(transactions=1)),
    "two updates": (1, Budget(updates=2)),
    "a row appears and is updated": (1, Budget(inserts=1, updates=1)),
    "a long transaction and an update": (2, Budget(transactions=1, updates=1)),
    "a long transaction and an update after landing": (2, Budget(transactions=1, updates=1), 2),
    "three updates after landing": (1, Budget(updates=3), 1),
    "a row appears in a long transaction": (1, Budget(transactions=1, inserts=1), 1),
    "declared anew twice, two rows": (2, Budget(declarations=2), 2),
    "declared anew in a long transaction": (1, Budget(declarations=1, transactions=1), 1),
    "declared anew, latest.json lost": (1, Budget(declarations=2, losses=1), 1),
    "declared anew, a row appears": (1, Budget(declarations=1, inserts=1), 1),
}


def explore(program, scenario):
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
    "declaration not in the mark": "declared anew after landing",
    "changed versions only": "declared anew after landing",
    "left out without a number": "declared anew twice",
}


@pytest.mark.parametrize(("fault", "scenario"), FAULTS.items(), ids=FAULTS)
def test_a_broken_protocol_is_found_out(fault, scenario):
    with pytest.raises(Violation):
        explore(partial(run, faults=frozenset({fault})), (SCENARIOS | LONG_SCENARIOS)[scenario])


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
    "declared anew twice": 2,
    "declared anew, two rows": 1,
}


@pytest.mark.parametrize(("scenario", "share"), SHARES.items(), ids=SHARES)
def test_the_code_makes_the_same_requests_as_the_model(scenario, share, monkeypatch):
    assert hold_against_the_code(SCENARIOS[scenario], monkeypatch, share) > 50


@pytest.mark.long
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_the_code_makes_the_same_requests_as_the_model_always(scenario, monkeypatch):
    assert hold_against_the_code(scenario, monkeypatch, share=1) > 40


# An object of changes is lost while runs and restorings are at work, which may die; in the end one
# that does not die restores it, between two runs.
RESTORED = {
    "a run": (1, Budget(updates=1, lost_changes=1), 1, "A"),
    "a run and a restoring": (1, Budget(updates=1, lost_changes=1), 1, "AR"),
    "two updates": (1, Budget(updates=2, lost_changes=1), 1, "A"),
    "a delete": (1, Budget(updates=1, deletes=1, lost_changes=1), 1, "A"),
}


def explore_lost(scenario, faults=frozenset()):
    def programs(name):
        return restore(faults) if name in "RS" else run(name)

    explorer = Explorer(programs, "CSDE", deletes_are_known=False)
    return explorer, explorer.schedules(start(*scenario))


@pytest.mark.parametrize("scenario", RESTORED.values(), ids=RESTORED)
def test_what_a_lost_object_held_is_delivered_again(scenario):
    explorer, schedules = explore_lost(scenario)
    print(f"{len(explorer.states):,} states, {schedules:,} schedules")
    assert len(explorer.states) > 100


def test_a_lost_object_is_not_replaced_by_nothing():
    with pytest.raises(Violation):
        explore_lost(RESTORED["a run"], frozenset({"all lines are as they were"}))


# Workers V and W of a load land the first and the second of two batches, in any order, as they read
# them at any time, while runs are at work.
LOADS = {
    "the second batch lands first": (2, Budget(updates=1), 0, "AW", (1, 2)),
    "both workers": (2, Budget(updates=1), 0, "AVW", (1, 2)),
    "behind rows that have landed": (3, Budget(updates=1), 1, "AW", (2, 3)),
}
LONG_LOADS = {
    "two updates": (2, Budget(updates=2), 0, "AW", (1, 2)),
    "a long transaction": (2, Budget(transactions=1), 0, "AW", (1, 2)),
    "a row appears": (2, Budget(inserts=1, updates=1), 0, "AW", (1, 2)),
    "two runs and a worker": (2, Budget(updates=1), 0, "ABW", (1, 2)),
}


def explore_load(scenario, faults=frozenset()):
    def programs(name):
        return work("VW".index(name) + scenario[2]) if name in "VW" else run(name, faults)

    explorer = Explorer(programs)
    return explorer, explorer.schedules(start(*scenario))


@pytest.mark.parametrize("scenario", LOADS.values(), ids=LOADS)
def test_updates_during_a_load_are_in_one_of_the_streams(scenario):
    explorer, schedules = explore_load(scenario)
    print(f"{len(explorer.states):,} states, {schedules:,} schedules")
    assert len(explorer.states) > 500


@pytest.mark.long
@pytest.mark.parametrize("scenario", LONG_LOADS.values(), ids=LONG_LOADS)
def test_updates_during_a_load_are_in_one_of_the_streams_in_more_schedules(scenario):
    test_updates_during_a_load_are_in_one_of_the_streams(scenario)


@pytest.mark.parametrize("fault", ["landed by others", "landed by others behind an adoption"])
def test_what_a_worker_read_before_the_mark_is_found_out(fault):
    with pytest.raises(Violation):
        explore_load(LOADS["the second batch lands first"], frozenset({fault}))
