"""Every fault fires its alarms and sends one email, in the time docs/operating.md says.

Then the alarms clear.

A fault is injected into the local stage; what the runs then leave behind is played at simulated
times to the alarms of the compiled template. To drill another fault, add it to `FAULTS`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from local.aws.function_log import Metric
from local.cloudwatch.simulation import Recording, record, recorded
from tests.helpers.faults import stage_faults
from tests.helpers.oracle.pages import minutes_to_fire
from tests.helpers.runs.drills import Days, drill, nights, state_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from local.stage import LocalStage
    from tests.helpers.runs.drills import Outcome

pytestmark = pytest.mark.e2e


class Fault(NamedTuple):
    """A fault, the alarms that must fire, and how it is drilled.

    `runs` runs are recorded; the last one stands for all later ones. The fault lasts `ticks` ticks.
    """

    inject: Callable[[LocalStage], AbstractContextManager[None]]
    alarms: set[str]
    ticks: int = 6
    runs: int = 1
    slow: bool = True


REFUSED = {"ingest-errors", "executions-failed"}
BROKEN = {"ingest-errors", "contracts-broken"}
FAULTS = {
    "database down": Fault(stage_faults.database_down, {"executions-failed"}),
    "wrong password": Fault(stage_faults.wrong_password, REFUSED, slow=False),
    "secret gone": Fault(stage_faults.secret_gone, REFUSED),
    "secret malformed": Fault(stage_faults.secret_malformed, REFUSED),
    "no permission on a table": Fault(stage_faults.permission_missing, REFUSED),
    "no permission on S3": Fault(stage_faults.s3_permission_missing, REFUSED),
    "S3 overloaded": Fault(stage_faults.s3_overloaded, {"executions-failed"}),
    "table dropped": Fault(stage_faults.table_dropped, REFUSED),
    "column renamed": Fault(stage_faults.column_renamed, BROKEN),
    "bad values": Fault(stage_faults.bad_values, BROKEN, ticks=1, slow=False),
    "out of memory": Fault(stage_faults.out_of_memory, {"executions-failed", "no-heartbeat"}),
    "timeout": Fault(stage_faults.too_slow, {"executions-failed", "function-slow", "no-heartbeat"}),
    "rows held back": Fault(
        stage_faults.writer_stays_open, {"rows-held-back"}, ticks=12, runs=2, slow=False
    ),
}


def check(
    resources: dict[str, Any],
    healthy: Recording,
    faulty: Sequence[Recording | None],
    alarms: set[str],
    ticks: int,
) -> Outcome:
    """Check what a fault does, however far back alarms look; return the last outcome."""
    for looks_back in (0, 2):
        outcome = drill(resources, looks_back, healthy, faulty, ticks)
        assert set(outcome.alarms) == alarms
        assert (len(outcome.emails), outcome.all_clears, outcome.still_on) == (1, 1, set())
        late = {
            name: minutes
            for name, minutes in outcome.alarms.items()
            if minutes > minutes_to_fire()[name]
        }
        assert not late
    return outcome


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[pytest.mark.long] if f.slow else []) for n, f in FAULTS.items()],
)
def test_a_fault_is_one_email(name, drilled, healthy, resources, matrix):
    fault = FAULTS[name]
    with fault.inject(drilled):
        faulty = [record(drilled) for _ in range(fault.runs)]
    matrix[name] = check(resources, healthy, faulty, fault.alarms, fault.ticks)
    assert drilled.run().status == "SUCCEEDED"


@pytest.mark.long
def test_a_run_that_hangs_is_one_email(drilled, healthy, resources, matrix):
    with state_machine(drilled, TimeoutSeconds=2):
        seen = len(drilled.log.lines())
        with stage_faults.locked(drilled):
            status = drilled.run().status
        # The execution is over, its call is not: it goes on now that nothing holds it.
        deadline = time.monotonic() + 60
        while not drilled.log.lines()[seen:] and time.monotonic() < deadline:
            time.sleep(0.05)
        stuck = recorded(drilled, seen, status)
    assert stuck.status == "TIMED_OUT"
    matrix["run hangs"] = check(resources, healthy, [stuck], {"executions-timed-out"}, ticks=6)


@pytest.mark.long
def test_rows_that_break_a_contract_now_and_then_are_one_email(drilled, healthy, resources, matrix):
    with stage_faults.bad_values(drilled):
        bad = record(drilled)
    every_50_minutes = [bad, *[healthy] * 4] * 3
    matrix["bad values now and then"] = check(resources, healthy, every_50_minutes, BROKEN, 11)


def test_runs_that_fail_sooner_and_later_are_one_email(healthy, resources, matrix):
    soon = Recording(healthy.calls, "FAILED", healthy.timeout)
    late = Recording([*healthy.calls] * 6, "FAILED", healthy.timeout)
    alarms = {"executions-failed"}
    matrix["fails soon or late"] = check(resources, healthy, [late, soon] * 4, alarms, ticks=8)


def test_a_schedule_that_is_off_is_one_email(stage, healthy, resources, matrix):
    matrix["schedule off"] = check(resources, healthy, [None], {"no-heartbeat"}, ticks=12)


def test_a_run_that_somebody_stops_is_one_email(healthy, resources, matrix):
    stopped = Recording(healthy.calls, "ABORTED", healthy.timeout)
    matrix["run stopped"] = check(resources, healthy, [stopped], {"executions-aborted"}, ticks=1)


def test_a_lambda_without_concurrency_is_one_email(healthy, resources, matrix):
    """Lambda refuses each call with TooManyRequestsException, until the retries are spent."""
    throttled = Recording([], "FAILED")
    alarms = {"executions-failed", "no-heartbeat"}
    matrix["throttled"] = check(resources, healthy, [throttled], alarms, ticks=6)


@pytest.mark.parametrize("looks_back", [0, 2])
def test_a_schedule_that_may_not_start_runs_is_one_email(healthy, resources, looks_back, matrix):
    days = Days(resources, looks_back)
    days.tick(healthy, 12)
    days.begin()
    for _ in range(9):
        days.simulation.add("AWS/Events", "FailedInvocations", days.simulation.second + 59)
        days.tick(None)
    days.tick(healthy, 18)
    outcome = matrix["schedule fails"] = days.outcome()
    assert set(outcome.alarms) == {"schedule-failed", "no-heartbeat"}
    assert (len(outcome.emails), outcome.all_clears, outcome.still_on) == (1, 1, set())
    assert outcome.emails[0] <= minutes_to_fire()["schedule-failed"]


@pytest.mark.long
def test_one_row_missing_at_night_is_one_email(drilled, healthy, resources, matrix):
    """An object of one row is deleted by day; the reconciliation finds that at night, once."""
    drilled.database.run(stage_faults.NEW_ADDRESS)
    assert drilled.run().output["rows"] == 1
    good = reconciled(drilled)
    with stage_faults.object_deleted(drilled, drilled.landed.keys("address")[-1]):
        bad = reconciled(drilled)
    found = {each.name: each.value for each in bad if "table" not in each.dimensions}
    assert (found["MissingRows"], found["BrokenObjects"]) == (1, 1)
    assert reconciled(drilled) == good
    for looks_back in (0, 2):
        outcome = nights(resources, looks_back, healthy, good, bad)
        assert set(outcome.alarms) == {"rows-missing", "objects-broken"}
        assert (len(outcome.emails), outcome.all_clears, outcome.still_on) == (1, 1, set())
    matrix["a row missing, from that night"] = outcome


def reconciled(stage: LocalStage) -> list[Metric]:
    """Call the nightly function; return the metrics it emits."""
    seen = len(stage.reconcile_log.metrics())
    assert not stage.reconcile().failed
    return stage.reconcile_log.metrics()[seen:]


@pytest.mark.long
@pytest.mark.parametrize(
    ("failed", "looks_back", "alarms"),
    [(2, 0, set()), (3, 0, {"reconcile-failed"}), (3, 2, {"reconcile-failed"})],
)
def test_a_reconciliation_that_fails_is_one_email_unless_a_retry_succeeds(
    healthy, resources, failed, looks_back, alarms, matrix
):
    """Lambda calls the function twice more if a call fails."""
    good, bad = (
        Metric("AWS/Lambda", "Errors", {"FunctionName": "ReconcileLambdaFunction"}, value)
        for value in (0, 1)
    )
    calls = [bad] * failed + [good] * (3 - failed)
    outcome = nights(resources, looks_back, healthy, [good], calls)
    assert set(outcome.alarms) == alarms
    emails = len(alarms)
    assert (len(outcome.emails), outcome.all_clears, outcome.still_on) == (emails, emails, set())
    if alarms:
        matrix["reconciliation fails"] = outcome
