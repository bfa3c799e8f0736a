"""The protocol of the claims, in every interleaving of runs that may die at every step.

A model of it, that is: see `tests.helpers.models.claim_programs`. At the end it is held against the
real code: given the same answers, both make the same requests.
"""

from __future__ import annotations

from itertools import islice

import pytest

from tests.helpers.models.claim_programs import BATCH_ROWS, functions, run
from tests.helpers.models.interleavings import (
    ALL,
    LATEST,
    ONCE,
    Budget,
    Explorer,
    Violation,
    start,
)
from tests.helpers.models.scripted import (
    maximal,
    requests_of_functions,
    requests_of_ingest,
    requests_of_model,
)

SCENARIOS = {
    "two batches": ("AB", 2, Budget()),
    "a row appears": ("AB", 1, Budget(appear=1)),
    "latest.json disturbed": ("AB", 2, Budget(disturb=1)),
    "a row deleted": ("AB", 2, Budget(vanish=1)),
}
LONG_SCENARIOS = {
    "three batches": ("AB", 3, Budget()),
    "one batch, a row appears, latest.json disturbed": ("AB", 1, Budget(appear=1, disturb=1)),
    "one batch, a row deleted, latest.json disturbed": ("AB", 1, Budget(vanish=1, disturb=1)),
    "latest.json disturbed twice": ("AB", 2, Budget(disturb=2)),
    "three batches, latest.json disturbed": ("AB", 3, Budget(disturb=1)),
    "a row deleted, latest.json disturbed": ("AB", 2, Budget(vanish=1, disturb=1)),
    "three runs": ("ABE", 1, Budget()),
}


PROGRAMS = [run, functions]


def explore(program, scenario):
    explorer = Explorer(program)
    return explorer, explorer.schedules(start(*scenario))


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("scenario", SCENARIOS.values(), ids=SCENARIOS)
def test_every_row_lands_exactly_once(program, scenario, record_property):
    explorer, schedules = explore(program, scenario)
    record_property("states", len(explorer.states))
    record_property("schedules", schedules)
    print(f"{len(explorer.states):,} states, {schedules:,} schedules")
    assert len(explorer.states) > 500


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("scenario", LONG_SCENARIOS.values(), ids=LONG_SCENARIOS)
def test_every_row_lands_exactly_once_in_more_schedules(program, scenario, record_property):
    test_every_row_lands_exactly_once(program, scenario, record_property)


class Crash(Exception):
    """A run ends with an error."""


def without_claims(request):
    if request[0] == "read claim":
        return None
    return True if request[0] == "create claim" else (yield request)


def refused_claim_ignored(request):
    answer = yield request
    return True if request[0] == "create claim" else answer


def refused_write_is_an_error(kind):
    def change(request):
        answer = yield request
        if request[0] == kind and not answer:
            raise Crash
        return answer

    return change


def latest_without_if_match(request):
    kind, *arguments = request
    return (yield ("put latest", arguments[-1]) if kind == "write latest" else request)


def claimed_means_landed(request):
    answer = yield request
    return 0 if request[0] == "head" and answer is None else answer


def adopted_up_to_the_limit_only(request):
    kind, *arguments = request
    if kind != "read settled rows":
        return (yield request)
    return (yield ("read rows", arguments[0], 1))


def adopted_but_for_the_last_row(request):
    answer = yield request
    return answer[:-1] if request[0] == "read settled rows" else answer


def refused_latest_given_up(request):
    answer = yield request
    return True if request[0] == "write latest" else answer


MUTATIONS = {
    "no claims": (without_claims, ONCE),
    "412 on a claim ignored": (refused_claim_ignored, ONCE),
    "412 on a claim is an error": (refused_write_is_an_error("create claim"), ALL),
    "412 on an object is an error": (refused_write_is_an_error("create object"), LATEST),
    "412 on latest.json given up": (refused_latest_given_up, LATEST),
    "latest.json without If-Match": (latest_without_if_match, LATEST),
    "a claim taken for an object": (claimed_means_landed, ALL),
    "adoption stops at the limit": (adopted_up_to_the_limit_only, ALL),
    "adoption loses the last row": (adopted_but_for_the_last_row, ALL),
}


def mutated(change):
    """Return the run with a fault built in: each of its requests passes through `change`."""

    def program(name):
        original = run(name)
        answer = None
        try:
            while True:
                answer = yield from change(original.send(answer))
        except (StopIteration, Crash):
            return

    return program


@pytest.mark.parametrize(("change", "promise"), MUTATIONS.values(), ids=MUTATIONS)
def test_a_broken_protocol_is_found_out(change, promise):
    explorer = Explorer(mutated(change), frozenset({promise}))
    with pytest.raises(Violation, match=promise):
        explorer.schedules(start("AB", 2, Budget()))


WITH_THE_CODE = SCENARIOS | dict(islice(LONG_SCENARIOS.items(), 3))
CODE = {"run": requests_of_ingest, "functions": requests_of_functions}


def hold_against_the_code(program, scenario, monkeypatch, share):
    explorer, _ = explore(program, scenario)
    compared = 0
    for name, history in islice(maximal(explorer.histories), 0, None, share):
        made = CODE["run" if name in "CD" else program.__name__](
            name, BATCH_ROWS[name], history, monkeypatch
        )
        assert made == requests_of_model(program, name, history)
        compared += 1
    return compared


@pytest.mark.thorough
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("scenario", ["two batches", "a row deleted", "latest.json disturbed"])
def test_the_code_makes_the_same_requests_as_the_model(program, scenario, monkeypatch):
    assert hold_against_the_code(program, SCENARIOS[scenario], monkeypatch, share=15) > 10


@pytest.mark.long
@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("scenario", WITH_THE_CODE.values(), ids=WITH_THE_CODE)
def test_the_code_makes_the_same_requests_as_the_model_always(program, scenario, monkeypatch):
    assert hold_against_the_code(program, scenario, monkeypatch, share=1) > 10
