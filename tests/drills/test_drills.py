"""Every fault fires its alarms, in the time docs/operating.md says; each sends one email.

Then the alarms clear. A second fault sends an email although the first one lasts.

A fault is injected into the local stage; what the runs then leave behind is played at simulated
times to the alarms of the compiled template. To drill another fault, add it to `FAULTS`.
"""

from __future__ import annotations

import json
import time
from itertools import permutations
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from local.aws.function_log import calls
from local.cloudwatch.simulation import LOADS, Recording, record, record_load, recorded
from shared.errors import LoadError
from tests.helpers.cases import all_but
from tests.helpers.faults import stage_faults
from tests.helpers.oracle.pages import minutes_to_fire
from tests.helpers.runs.drills import TICKS_A_DAY, Days, drill, nights, state_machine

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from local.stage import LocalStage
    from tests.helpers.runs.drills import Email, Outcome

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


DATABASE_REFUSED = {"database-refused", "executions-failed"}
AWS_REFUSED = {"aws-refused", "executions-failed"}
BROKEN = {"contracts-broken"}
FAULTS = {
    "database down": Fault(
        stage_faults.database_down, {"database-unavailable", "executions-failed"}
    ),
    "wrong password": Fault(stage_faults.wrong_password, DATABASE_REFUSED, slow=False),
    "secret gone": Fault(stage_faults.secret_gone, AWS_REFUSED),
    "secret malformed": Fault(stage_faults.secret_malformed, AWS_REFUSED),
    "no permission on a table": Fault(stage_faults.permission_missing, DATABASE_REFUSED),
    "no permission on S3": Fault(stage_faults.s3_permission_missing, AWS_REFUSED),
    "S3 overloaded": Fault(stage_faults.s3_overloaded, {"aws-unavailable", "executions-failed"}),
    "table dropped": Fault(stage_faults.table_dropped, DATABASE_REFUSED),
    "column renamed": Fault(stage_faults.column_renamed, BROKEN),
    "bad values": Fault(stage_faults.bad_values, BROKEN, ticks=1, slow=False),
    "out of memory": Fault(stage_faults.out_of_memory, {"function-killed", "executions-failed"}),
    "timeout": Fault(stage_faults.too_slow, {"function-slow", "executions-failed"}),
    "rows held back": Fault(stage_faults.writer_stays_open, {"rows-held-back"}, ticks=12, runs=2),
}
# Faults of runs that need no injection: Step Functions or the schedule are what fails.
THROTTLED = Recording([], "FAILED")
HANGS = Recording([], "TIMED_OUT")
OTHERS: dict[str, tuple[Recording | None, set[str]]] = {
    "throttled": (THROTTLED, {"executions-failed", "no-heartbeat"}),
    "schedule off": (None, {"no-heartbeat"}),
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
        sound(outcome, alarms)
    return outcome


def sound(outcome: Outcome, alarms: set[str]) -> None:
    """Check that each alarm sent one email in time, and one when it was over."""
    assert sorted(email.alarm for email in outcome.emails) == sorted(alarms)
    assert sorted(outcome.all_clears) == sorted(alarms)
    assert outcome.still_on == set()
    assert len([email for email in outcome.emails if email.minutes <= 30]) <= 2
    late = [email for email in outcome.emails if email.minutes > minutes_to_fire()[email.alarm]]
    assert not late


def injected(
    name: str, stage: LocalStage, recordings: dict[str, Sequence[Recording | None]]
) -> Sequence[Recording | None]:
    """Return the runs of a fault; it is injected once."""
    if name not in recordings:
        fault = FAULTS[name]
        with fault.inject(stage):
            recordings[name] = [record(stage) for _ in range(fault.runs)]
        assert stage.run().status == "SUCCEEDED"
    return recordings[name]


@pytest.mark.parametrize("name", all_but([n for n, f in FAULTS.items() if f.slow], FAULTS))
def test_each_alarm_of_a_fault_sends_one_email(
    name, drilled, healthy, resources, matrix, recordings
):
    fault, faulty = FAULTS[name], injected(name, drilled, recordings)
    matrix[name] = check(resources, healthy, faulty, fault.alarms, fault.ticks)


# Of the same kind, so that they share their alarms: while the one lasts, the other one is not told.
SAME = [
    {"wrong password", "no permission on a table", "table dropped"},  # the database refuses
    {"secret gone", "secret malformed", "no permission on S3"},  # AWS refuses
    {"column renamed", "bad values"},  # contracts are broken
]


@pytest.mark.long
def test_no_fault_hides_another(drilled, healthy, resources, recordings):
    """Of each two faults of different kinds the second one, half an hour later, sends an email.

    The first one lasts. It is one of a run that takes place: where nothing runs, nothing else of a
    run can fail.
    """
    firsts = {
        name: (injected(name, drilled, recordings), fault.alarms) for name, fault in FAULTS.items()
    }
    seconds = firsts | {name: ([run], alarms) for name, (run, alarms) in OTHERS.items()}
    hidden = set()
    for first, (first_runs, first_alarms) in firsts.items():
        for second, (second_runs, second_alarms) in seconds.items():
            own = second_alarms - first_alarms
            sent = second_emails(resources, healthy, first_runs, second_runs)
            in_time = {
                email.alarm
                for email in sent
                if email.alarm in own and email.minutes <= minutes_to_fire()[email.alarm]
            }
            if first != second and (in_time != own or not own):
                hidden.add((first, second))
    assert hidden == {pair for kind in SAME for pair in permutations(kind, 2)}


def second_emails(
    resources: dict[str, Any],
    healthy: Recording,
    first: Sequence[Recording | None],
    second: Sequence[Recording | None],
) -> list[Email]:
    """Return the emails after the begin of a second fault, while the first one goes on.

    Both are in each run from then on; where one hides the other from the run, as a database that is
    down does, its own lines are still there.
    """
    days = Days(resources, 2)
    days.tick(healthy, 6)
    for number in range(3):
        days.tick(first[min(number, len(first) - 1)])
    days.begin()
    for number in range(12):
        days.tick(both(first[-1], second[min(number, len(second) - 1)]))
    return days.outcome().emails


def both(first: Recording | None, second: Recording | None) -> Recording | None:
    """Return a run that has two faults."""
    if first is None or second is None:
        return None  # nothing is started
    if not second.calls:
        return second  # nothing is called
    status = second.status if first.status == "SUCCEEDED" else first.status
    return Recording([*second.calls, *first.calls], status, second.timeout)


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


def test_a_run_that_somebody_stops_is_no_email_and_if_they_go_on_it_is_one(
    healthy, resources, matrix
):
    stopped = Recording(healthy.calls, "ABORTED", healthy.timeout)
    matrix["run stopped"] = check(resources, healthy, [stopped], set(), ticks=1)
    at_once = Recording([], "ABORTED")
    matrix["runs stopped"] = check(resources, healthy, [at_once], {"no-heartbeat"}, ticks=6)


# --- loads ---


def test_a_load_that_can_not_begin_is_an_email_beside_that_of_its_cause(
    drilled, healthy, resources, matrix
):
    alarms = {"load-failed", "database-refused"}
    refused = record_load(drilled, "sales_order", 200)  # workers, more than the server has room for
    matrix["load refused"] = loaded(resources, healthy, refused, alarms)


def test_a_load_that_leaves_batches_is_one_email(healthy, resources, matrix):
    """Its last call says so in a line of its own."""
    [*lines, report] = healthy.calls[-1]
    said = {"level": "ERROR", "message": "The run failed", "alarm": LoadError.alarm}
    call = [*lines, json.dumps(said), report]
    left = Recording([call], "FAILED", healthy.timeout, LOADS)
    matrix["load leaves batches"] = loaded(resources, healthy, left, {"load-failed"})


@pytest.mark.parametrize("status", ["SUCCEEDED", "ABORTED"])
def test_a_load_that_ends_well_or_is_stopped_is_no_email(status, healthy, resources, matrix):
    ended = Recording(healthy.calls, status, healthy.timeout, LOADS)
    matrix[f"load {status.lower()}"] = loaded(resources, healthy, ended, set())


def loaded(
    resources: dict[str, Any], healthy: Recording, load: Recording, alarms: set[str]
) -> Outcome:
    """Check what a load does between two ticks; runs go on."""
    for looks_back in (0, 2):
        days = Days(resources, looks_back)
        days.tick(healthy, 12)
        days.play(load)
        days.tick(healthy, 18)
        outcome = days.outcome()
        sound(outcome, alarms)
    return outcome


def test_a_lambda_without_concurrency_is_two_emails(healthy, resources, matrix):
    """Lambda refuses each call with TooManyRequestsException, until the retries are spent."""
    alarms = {"executions-failed", "no-heartbeat"}
    matrix["throttled"] = check(resources, healthy, [THROTTLED], alarms, ticks=6)


def test_a_stage_that_never_runs_is_an_email(resources):
    days = Days(resources, 2)
    days.tick(None, 8)
    [email] = days.outcome().emails
    assert email.alarm == "no-heartbeat"
    assert 60 <= email.minutes <= 70


# --- the reconciliation ---


# What happens by day to the object of one row, and the alarms of the night.
BY_DAY = {
    "a row missing": (stage_faults.object_deleted, {"rows-missing", "objects-broken"}),
    "a value altered": (stage_faults.value_altered, {"rows-differ"}),
}


@pytest.mark.long
@pytest.mark.parametrize("name", BY_DAY)
def test_what_happens_to_an_object_by_day_is_told_at_night_once(
    name, drilled, healthy, resources, matrix
):
    inject, alarms = BY_DAY[name]
    drilled.database.run(stage_faults.NEW_ADDRESS)
    assert drilled.run().output["rows"] == 1
    good = reconciled(drilled)
    with inject(drilled, drilled.landed.keys("address")[-1]):
        bad = reconciled(drilled)
    for looks_back in (0, 2):
        outcome = nights(resources, looks_back, healthy, good, bad)
        sound(outcome, alarms)
    matrix[f"{name}, from that night"] = outcome


@pytest.mark.long
def test_deletes_that_are_held_back_are_one_email(drilled, healthy, resources, matrix):
    good = reconciled(drilled)
    with stage_faults.table_emptied(drilled):
        bad = reconciled(drilled)
    for looks_back in (0, 2):
        outcome = nights(resources, looks_back, healthy, good, bad)
        sound(outcome, {"deletes-held-back"})
    matrix["many deletes"] = outcome


@pytest.mark.long
def test_what_is_missing_for_several_nights_is_told_once(drilled, healthy, resources):
    """Also if a night's finding comes later than that of the night before."""
    drilled.database.run(stage_faults.NEW_ADDRESS)
    assert drilled.run().output["rows"] == 1
    with stage_faults.object_deleted(drilled, drilled.landed.keys("address")[-1]):
        bad = reconciled(drilled)
    days = Days(resources, 2)
    days.tick(healthy)
    days.begin()
    for late in (0, 2, 0):
        days.tick(healthy, late)
        days.simulation.play_night(bad)
        days.tick(healthy, TICKS_A_DAY - late)
    assert sorted(email.alarm for email in days.outcome().emails) == [
        "objects-broken",
        "rows-missing",
    ]


def reconciled(stage: LocalStage) -> list[list[str]]:
    """Call the nightly function; return the log lines of its call."""
    seen = len(stage.reconcile_log.lines())
    assert not stage.reconcile().failed
    return list(calls(stage.reconcile_log.lines()[seen:]))


@pytest.mark.long
@pytest.mark.parametrize("looks_back", [0, 2])
@pytest.mark.parametrize("failed", [2, 3])
def test_a_reconciliation_that_fails_is_one_email_unless_a_retry_succeeds(
    drilled, healthy, resources, failed, looks_back, matrix
):
    """Lambda calls the function twice more if a call fails."""
    good = reconciled(drilled)
    seen = len(drilled.reconcile_log.lines())
    with stage_faults.permission_missing(drilled):
        assert drilled.reconcile().failed
    [bad] = calls(drilled.reconcile_log.lines()[seen:])
    night = [bad] * failed + [*good] * (3 - failed)
    outcome = nights(resources, looks_back, healthy, good, night)
    sound(outcome, {"reconcile-failed"} if failed == 3 else set())
    if failed == 3:
        matrix["reconciliation fails"] = outcome


@pytest.mark.long
@pytest.mark.parametrize("looks_back", [0, 2])
def test_a_reconciliation_that_does_not_run_is_one_email(
    drilled, healthy, resources, looks_back, matrix
):
    outcome = nights(resources, looks_back, healthy, reconciled(drilled), [])
    sound(outcome, {"no-reconciliation"})
    matrix["reconciliation does not run"] = outcome
