"""Without a fault, no email is sent."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest

from local import totesys
from local.cloudwatch.simulation import record
from local.stage import LocalStage
from tests.helpers.cases import one_in
from tests.helpers.faults import stage_faults
from tests.helpers.runs.drills import TICKS_A_DAY, Days, drill

pytestmark = pytest.mark.e2e

OFFICE_HOURS = range(8 * 6, 18 * 6)
LOOKS_BACK = pytest.mark.parametrize("looks_back", one_in(2, [2, 0]))
MILLION = 1_000_000
# A reconciliation that finds nothing.
REPORT = ["REPORT RequestId: 1\tDuration: 900.00 ms\tBilled Duration: 901 ms"]


@pytest.fixture(scope="module")
def busy(drilled):
    """A run that finds new orders, transactions and payments."""
    totesys.add_events(drilled.database, 3)
    recording = record(drilled)
    assert recording.status == "SUCCEEDED"
    return recording


@pytest.fixture(scope="module")
def healed(drilled):
    """A run whose first call finds no database."""
    seen = len(drilled.log.lines())
    with ThreadPoolExecutor(1) as executor:
        with stage_faults.database_down(drilled):
            running = executor.submit(record, drilled)
            deadline = time.monotonic() + 60
            while not drilled.log.lines()[seen:] and time.monotonic() < deadline:
                time.sleep(0.01)
        return running.result()


def quiet(days):
    """Tell whether nothing happened since the deployment but each alarm's first OK.

    These come before anybody can have confirmed the subscription.
    """
    outcome = days.outcome()
    return (outcome.emails, outcome.still_on) == ([], set()) and len(outcome.all_clears) == len(
        set(outcome.all_clears)
    )


@LOOKS_BACK
def test_a_quiet_weekend(resources, healthy, looks_back):
    days = Days(resources, looks_back)
    for _ in range(2):
        days.simulation.play_night([REPORT])
        days.tick(healthy, TICKS_A_DAY)
    assert quiet(days)


@pytest.mark.long
@LOOKS_BACK
def test_a_working_week(resources, healthy, busy, healed, looks_back):
    """Orders come in office hours, and now and then an error is transient."""
    rng = Random(1)
    days = Days(resources, looks_back)
    for _ in range(5):
        days.simulation.play_night([REPORT])
        for tick in range(TICKS_A_DAY):
            finds = rng.choices([busy, healthy, healed], [60, 37, 3])[0]
            days.tick(finds if tick in OFFICE_HOURS else healthy)
    assert quiet(days)


@LOOKS_BACK
def test_a_retry_that_heals_itself(resources, healthy, healed, looks_back):
    assert healed.status == "SUCCEEDED"
    assert len(healed.calls) > 1
    assert any("SourceUnavailableError" in line for line in healed.calls[0])
    outcome = drill(resources, looks_back, healthy, [healed], ticks=1)
    assert outcome.emails == []
    assert any("\tStatus: error" in line for line in healed.calls[0])


@LOOKS_BACK
@pytest.mark.parametrize("ticks", [1, 4])
def test_a_first_deployment(resources, healthy, ticks, looks_back):
    """The first tick may come late."""
    days = Days(resources, looks_back)
    days.tick(None, ticks)
    days.tick(healthy, 12)
    assert quiet(days)


@pytest.mark.long
def test_rows_held_back_for_fifty_minutes(drilled, resources, healthy):
    with stage_faults.writer_stays_open(drilled):
        held_back = [record(drilled) for _ in range(2)]
    drilled.run()
    for looks_back in (0, 2):
        outcome = drill(resources, looks_back, healthy, held_back, ticks=5)
        assert outcome.emails == []


@pytest.mark.long
def test_a_first_load_of_a_million_rows(resources, healthy):
    with LocalStage(events=30) as stage:  # of its own: nobody else wants that many rows
        totesys.bulk_sales_orders(stage.database, MILLION)
        load = record(stage)
        landed = stage.landed.latest("sales_order")
    assert load.status == "SUCCEEDED"
    assert landed
    assert landed["latest_row_id"] >= MILLION
    for looks_back in (0, 2):
        days = Days(resources, looks_back)
        days.tick(load)
        days.tick(healthy, 12)
        assert quiet(days)
