"""A session that the server ends takes one table with it, not the run; and the server says why."""

from __future__ import annotations

import threading

import pytest

from services.ingestion.handler import lambda_handler
from shared.bucket.keys import change_folder, is_change_key
from shared.clients import s3_client
from shared.errors import TransientIngestionError
from shared.tables import TABLES, Table
from tests.helpers.oracle import landed
from tests.helpers.runs.lambda_context import CONTEXT
from tests.helpers.writers.entries import wait_for

pytestmark = pytest.mark.thorough

LAST = TABLES[-1]
WAITS = (
    "SELECT count(*) > 0 FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND application_name = 'totesys-ingestion'"
)
END = (
    "SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity "
    "WHERE application_name = 'totesys-ingestion'"
)
SAID = "terminating connection due to administrator command (SQLSTATE 57P01)"
OPENED_AGAIN = "The session was lost and is opened again"


@pytest.fixture
def admin(totesys):
    return totesys.connect()


@pytest.fixture
def before_objects(deployed):
    """Call what it is given before the next object is put, one after the other."""
    acts: list = []

    def act(request, **_):
        if acts and ".jsonl" in request.url:
            acts.pop(0)()

    s3_client().meta.events.register("before-send.s3.PutObject", act)
    return acts


def failures():
    """Run; return what each failed table says."""
    with pytest.raises(TransientIngestionError) as failed:
        lambda_handler({}, CONTEXT)
    return {table: str(error) for table, error in failed.value.failures.items()}


def messages(log_lines):
    return [line["message"] for line in log_lines() if "message" in line]


def landed_of(bucket, admin, tables):
    """Check that all of these tables have landed."""
    for table in tables:
        found = admin.run(f"SELECT {table}_id FROM {table} ORDER BY 1")
        assert landed.ids(bucket, table) == [row_id for [row_id] in found], table


def test_a_session_that_is_ended_while_it_waits(admin, totesys, bucket, before_objects, log_lines):
    locking = totesys.connect()
    before_objects.append(lambda: locking.run(f"BEGIN; LOCK TABLE {LAST}"))

    def end_it():
        wait_for(admin, WAITS)
        admin.run(END)
        locking.run("ROLLBACK")

    ending = threading.Thread(target=end_it)
    ending.start()
    said = failures()
    ending.join()
    assert list(said) == [LAST]
    assert SAID in said[LAST]
    landed_of(bucket, admin, TABLES[:-1])
    lambda_handler({}, CONTEXT)
    landed_of(bucket, admin, TABLES)


def test_a_session_that_is_ended_between_statements(admin, bucket, before_objects, log_lines):
    before_objects.append(lambda: admin.run(END))
    said = failures()
    [(table, why)] = said.items()
    assert SAID in why
    assert messages(log_lines).count(OPENED_AGAIN) == 1
    landed_of(bucket, admin, [each for each in TABLES if each != table])
    lambda_handler({}, CONTEXT)
    landed_of(bucket, admin, TABLES)


def test_a_session_is_opened_again_only_once(admin, bucket, before_objects, log_lines):
    before_objects += [lambda: admin.run(END)] * 2
    said = failures()
    assert [SAID in why for why in said.values()][:2] == [True, True]
    assert all("only once" in why for why in [*said.values()][2:])
    assert messages(log_lines).count(OPENED_AGAIN) == 1
    lambda_handler({}, CONTEXT)
    landed_of(bucket, admin, TABLES)


def test_changes_are_read_in_the_second_session(admin, totesys, bucket, before_objects):
    """It is prepared as the first one was: a scan proves its session and does not prepare it."""
    lambda_handler({}, CONTEXT)
    admin.run(f'ALTER ROLE reader IN DATABASE "{totesys.name}" SET TimeZone = "Asia/Tokyo"')
    for table in TABLES:
        admin.run(f"UPDATE {table} SET {table}_id = {table}_id WHERE {table}_id = 1")
    admin.run("SELECT pg_stat_force_next_flush()")
    before_objects.append(lambda: admin.run(END))
    [failed] = failures()
    lambda_handler({}, CONTEXT)
    for table in TABLES:
        [key] = [key for key in bucket.keys(change_folder(Table(table))) if is_change_key(key)]
        assert landed.body(bucket, key).count("\n") == 1, table
    assert failed
