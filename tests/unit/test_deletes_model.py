"""Deletes in every interleaving of runs and reconciliations that may die at every step.

A model, that is, with the runs of `test_changes_model`: each rule of the tombstones is left out
once, and a schedule is found in which a row is lost or raised without it.
"""

from __future__ import annotations

from functools import partial

import pytest

from tests.helpers.models.change_programs import put, run
from tests.helpers.models.change_schedules import Budget, Explorer, Violation, start

# How many rows there are, what happens to the table, how many rows have landed before, and who goes
# first: runs A and B, reconciliations T and U.
SCENARIOS = {
    "a delete": (1, Budget(deletes=1), 1, "AT"),
    "a delete, two reconciliations": (1, Budget(deletes=1), 1, "TU"),
    "a delete before it lands": (1, Budget(deletes=1), 0, "AT"),
    "a delete of one of two, of which one has landed": (2, Budget(deletes=1), 1, "AT"),
    "an update and a delete": (1, Budget(updates=1, deletes=1), 1, "AT"),
    "inserted again": (1, Budget(deletes=1, returns=1), 1, "AT"),
    "inserted again, two reconciliations": (1, Budget(deletes=1, returns=1), 1, "TU"),
    "deleted or inserted again by a long transaction": (
        1, Budget(transactions=1, deletes=1, returns=1), 1, "AT",
    ),
    "detached and attached again": (1, Budget(detaches=1), 1, "AT"),
    "detached and attached again, two reconciliations": (1, Budget(detaches=1), 1, "TU"),
    "latest.json lost": (1, Budget(deletes=1, losses=1), 1, "AT"),
    "declared anew": (1, Budget(deletes=1, declarations=1), 1, "AT"),
}  # fmt: skip
LONG_SCENARIOS = {
    "deletes of two": (2, Budget(deletes=2), 2, "AT"),
    "two runs and a reconciliation": (1, Budget(deletes=1), 1, "ABT"),
    "inserted again, latest.json lost": (1, Budget(deletes=1, returns=1, losses=1), 1, "AT"),
    "declared anew, inserted again": (1, Budget(deletes=1, returns=1, declarations=1), 1, "AT"),
    "deleted twice": (1, Budget(deletes=2, returns=1), 1, "AT"),
    "of two, one has landed, inserted again": (2, Budget(deletes=1, returns=1), 1, "AT"),
}


BY_VALUE = {
    "updated": (1, Budget(detaches=1, updates=1), 1, "AT"),
    "declared anew": (1, Budget(detaches=1, declarations=1), 1, "AT"),
}


def reconcile(faults=frozenset()):
    """One reconciliation of a table: a tombstone for each row that landed and is gone."""
    state = yield ("read state",)
    at = yield ("read latest",)
    front, _ = yield ("find position", at)
    number = max(state.sequence if state else 0, (yield ("last change",)))
    if number and not state:
        base, declared = yield ("base of change", number)
    else:
        base, declared = (state.base, state.declared) if state else (None, 0)
    if base is None:  # it has no change stream yet
        return
    words = dict((yield ("read streams", front, number)))
    source = dict((yield ("read source", front, base)))
    if "number after the source" in faults:
        number = yield ("last change",)
    gone = [(row_id, None) for row_id, word in words.items() if word and row_id not in source]
    back = [row_id for row_id, is_old in source.items() if is_old and not words.get(row_id)]
    if "what comes back is left to the scans" in faults:
        back = []
    parts = [(each,) for each in gone]  # an object each
    for row_id in back:
        row = yield ("read row", row_id)
        parts.append(row)
    for part in parts:
        if part:
            number = yield from put(number + 1, part, (base, declared), faults)
            if not number:
                return
    if "writes a mark" in faults:
        mark, _, writes, *_ = yield ("survey",)
        yield ("write state", state, state._replace(sequence=number, base=mark, writes=writes))
    elif state:  # the number, and nothing else
        yield ("write state", state, state._replace(sequence=number))


def programs(name, faults=frozenset()):
    return reconcile(faults) if name in "TUVW" else run(name)


def explore(scenario, faults=frozenset()):
    explorer = Explorer(partial(programs, faults=faults), "CVDEW")
    return explorer, explorer.schedules(start(*scenario))


def explore_both_ways(scenario, faults=frozenset()):
    explore(scenario, faults)
    explore_without_another(scenario, faults)


def explore_without_another(scenario, faults=frozenset()):
    """Let no reconciliation follow that could mend what the first ones have lost."""
    explorer = Explorer(partial(programs, faults=faults), "CDE", deletes_are_known=False)
    return explorer, explorer.schedules(start(*scenario))


@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_a_row_that_is_gone_is_gone_and_no_other(scenario, record_property):
    explorer, schedules = explore(scenario)
    record_property("states", len(explorer.states))
    print(f"{len(explorer.states):,} states, {schedules:,} schedules")
    assert len(explorer.states) > 400


@pytest.mark.parametrize("scenario", [each for each in SCENARIOS.values() if not each[1].detaches])
def test_a_row_that_is_there_is_not_lost_until_another_reconciliation_finds_it(scenario):
    explore_without_another(scenario)


@pytest.mark.long
@pytest.mark.parametrize("scenario", LONG_SCENARIOS.values(), ids=LONG_SCENARIOS)
def test_a_row_that_is_gone_is_gone_in_more_schedules(scenario, record_property):
    test_a_row_that_is_gone_is_gone_and_no_other(scenario, record_property)


@pytest.mark.parametrize("scenario", BY_VALUE.values(), ids=BY_VALUE)
def test_what_only_its_values_prove(scenario):
    """A row that was updated comes back as it was then, and a scan took place in between."""
    with pytest.raises(Violation, match=r"Both streams say \{1: 1\}, the table \{1: \d+\}"):
        explore(scenario)


FAULTS = {
    "number after the source": "inserted again",
    "refused, so takes the next number": "inserted again",
    "what comes back is left to the scans": "detached and attached again",
    "writes a mark": "an update and a delete",
}


@pytest.mark.parametrize(("fault", "scenario"), FAULTS.items(), ids=FAULTS)
def test_a_broken_rule_is_found_out(fault, scenario):
    with pytest.raises(Violation):
        explore_both_ways(SCENARIOS[scenario], frozenset({fault}))
