"""The simulation of a load, held against what can be said of one without it."""

from __future__ import annotations

import json
from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks import loading
from benchmarks.cost import PRICES, RESULTS
from benchmarks.loading import (
    CALL_SECONDS,
    COLD_START_SECONDS,
    FINISH_SECONDS,
    MOST_ITEMS,
    Batch,
    Loaded,
    bill,
    simulate,
)
from services.ingestion import plan
from tests.helpers.oracle.pages import page, section

FOUND = json.loads(RESULTS.read_text())
PAGE = section(page("docs/performance.md"), "A load of a billion rows")

seconds = st.floats(0.01, 2)
some_batches = st.builds(Batch, seconds, seconds, seconds)
counts = {"workers": st.integers(1, 70), "cores": st.integers(1, 17)}


def calls(batches: int) -> int:
    return ceil(batches / ceil(batches / MOST_ITEMS))


@given(each=some_batches, batches=st.integers(1, 3_000), **counts)
def test_no_load_is_faster_than_its_server_its_workers_or_one_batch(each, batches, workers, cores):
    took = simulate(each, workers, cores, batches)
    alone = each.server + each.worker
    starts = min(workers, batches) * COLD_START_SECONDS + calls(batches) * CALL_SECONDS
    assert took.landing >= batches * each.server / cores - 1e-6
    assert took.landing >= batches * alone / workers - 1e-6
    assert took.landing >= alone + COLD_START_SECONDS
    assert took.busy >= batches * alone + starts - 1e-6
    # Nobody idles while there is work: the worst is that all wait for one core.
    longest = batches * alone + COLD_START_SECONDS + calls(batches) * CALL_SECONDS
    assert took.landing <= longest + 1e-6
    assert took.busy <= workers * took.landing + starts + 1e-6
    assert took.plan == pytest.approx(batches * each.plan)


@given(each=some_batches, batches=st.integers(1, 3_000), cores=counts["cores"])
def test_one_worker_takes_one_batch_after_the_other(each, batches, cores):
    took = simulate(each, 1, cores, batches)
    work = batches * (each.server + each.worker)
    assert took.landing == pytest.approx(work + COLD_START_SECONDS + calls(batches) * CALL_SECONDS)


def test_more_workers_or_cores_help_until_the_other_is_the_limit():
    each = Batch(server=0.1, worker=0.5, plan=0.1)
    landing = {
        (workers, cores): simulate(each, workers, cores, 20_000).landing
        for workers in (1, 6, 12, 48)
        for cores in (1, 2)
    }
    assert landing[1, 2] == pytest.approx(20_000 * 0.6, rel=0.05)
    assert landing[12, 2] == pytest.approx(20_000 * 0.05, rel=0.1)
    assert landing[48, 2] == pytest.approx(20_000 * 0.05, rel=0.02)
    assert landing[48, 1] == pytest.approx(20_000 * 0.1, rel=0.02)


def test_a_bill_is_of_seconds_requests_and_steps():
    took = Loaded(plan=180, landing=100, busy=1000)
    costs = bill(took, 2_000)
    assert costs["S3, claims and objects"] == pytest.approx(4_008 * PRICES["S3, PUT or LIST"])
    assert costs["S3, reading claims"] == pytest.approx(4_000 * PRICES["S3, GET"])
    assert costs["Step Functions"] == pytest.approx(3_005 * PRICES["Step Functions, transition"])
    gigabyte_seconds = (1180 + FINISH_SECONDS) * 1769 / 1024 * PRICES["Lambda, GB-second"]
    requests = 1_002 * PRICES["Lambda, request"]
    assert costs["Lambda"] == pytest.approx(gigabyte_seconds + requests)


def test_a_load_has_as_many_items_as_the_plan_makes():
    assert MOST_ITEMS == plan.MOST_ITEMS


def test_the_page_has_the_hours_and_the_bill_of_the_simulation():
    each = loading.batch(FOUND["loading"])
    for workers in loading.WORKERS:
        hours = [f"{simulate(each, workers, cores).hours:.1f}" for cores in loading.CORES]
        assert f"| {workers} | {' | '.join(hours)} |" in PAGE
    assert f"takes {loading.plan_hours(each):.1f} hours of these" in PAGE
    assert f"the runs take about {loading.hours_by_runs(FOUND):.0f} hours" in PAGE
    costs = bill(simulate(each, 8, 4))
    for what, dollars in costs.items():
        assert f"| {what} | {dollars:.2f} |" in PAGE
    assert f"| in all | {sum(costs.values()):.2f} |" in PAGE


def test_the_page_has_what_was_measured():
    measured = FOUND["loading"]
    for workers, took in measured["workers"].items():
        cpu = took["cpu_seconds"] + took["server_seconds"]
        assert f"| {workers} | {took['seconds']:.1f} | {cpu:.1f} |" in PAGE
    assert f"load average {measured['load_average']:.1f}" in PAGE
