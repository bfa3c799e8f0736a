"""The database going away in a run: another try helps, and nothing is lost or doubled."""

from __future__ import annotations

import threading
import time
from contextlib import closing
from dataclasses import replace

import pytest
from pg8000.exceptions import DatabaseError

from shared.errors import PipelineError, SourceUnavailableError, TransientIngestionError
from shared.postgres.session import disconnect
from tests.helpers.faults.cuts import cut_database
from tests.helpers.runs.place import Place

pytestmark = pytest.mark.thorough

INSERT = "INSERT INTO thing (name) SELECT repeat('x', 99) FROM generate_series(1, 200)"
OTHER = "other_thing"
WAITING = (
    "SELECT count(*) FROM pg_stat_activity "
    "WHERE wait_event_type = 'Lock' AND application_name = 'totesys-ingestion'"
)


@pytest.fixture
def place(database, bucket):
    """A table of which some rows have landed, and one that has landed nothing yet."""
    connection = database.connect()
    connection.run("CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)")
    connection.run("CREATE TABLE other_thing (other_thing_id serial PRIMARY KEY)")
    connection.run(INSERT)
    place = Place(database, bucket, ["thing"], {})
    place.run()
    connection.run(INSERT)
    connection.run("INSERT INTO other_thing DEFAULT VALUES")
    return replace(place.now(), tables=["thing", OTHER])


def lands_in_the_next_run(place):
    place.run()
    place.check()


@pytest.mark.parametrize(
    "cuts", [8, pytest.param(200, marks=pytest.mark.long)], ids="{} cuts".format
)
def test_a_connection_cut_after_any_number_of_bytes(place, cuts):
    with cut_database(place.database) as proxy:
        behind = replace(place, database=proxy)
        behind.again().run()
        total = proxy.passed
        for number in range(cuts):
            attempt = behind.again()
            proxy.allowed = 1 + total * number // cuts
            # Who is cut off while logging in has no tables yet.
            with pytest.raises((TransientIngestionError, SourceUnavailableError)):
                attempt.run()
            proxy.allowed = None
            lands_in_the_next_run(attempt)


def statements_of(place):
    steps: list[str] = []
    place.again().run(steps.append)
    return [n for n, step in enumerate(steps) if step.startswith(("before SELECT", "before WITH"))]


def test_a_session_ended_before_any_statement(place):
    numbers = statements_of(place)
    assert len(numbers) > 4  # the survey, and two tables described and read
    for number in numbers:
        attempt = place.again()
        steps: list[str] = []

        def end_session(step, steps=steps, number=number):
            steps.append(step)
            if len(steps) == number + 1:
                place.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE application_name = 'totesys-ingestion'"
                )

        with pytest.raises(TransientIngestionError) as failure:
            attempt.run(end_session)
        assert OTHER in failure.value.failures
        lands_in_the_next_run(attempt)


def waiting_run(place):
    """Start a run that waits for a table in the middle of its reads; return how it ends."""
    ended = []

    def run():
        try:
            place.run()
        except PipelineError as error:
            ended.append(error)

    thread = threading.Thread(target=run)
    locking = place.database.connect()
    locking.run("BEGIN")
    locking.run("LOCK TABLE thing IN ACCESS EXCLUSIVE MODE")
    thread.start()
    deadline = time.monotonic() + 10
    with closing(place.database.connect()) as watching:
        while watching.run(WAITING) == [[0]]:
            assert time.monotonic() < deadline
    return thread, ended


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_the_server_restarted_in_the_middle_of_a_statement(place, mode):
    thread, ended = waiting_run(place)
    place.database.server.restart(mode)
    thread.join()
    [error] = ended
    assert type(error) is TransientIngestionError
    assert list(error.failures) == ["thing", OTHER]
    lands_in_the_next_run(place)


def test_the_server_away(place):
    server = place.database.server
    server.kill()
    try:
        with pytest.raises(SourceUnavailableError):
            place.run()
    finally:
        server.restart()
    lands_in_the_next_run(place)


def test_saying_goodbye_to_a_session_that_is_gone_is_no_error(place):
    """It would hide the error of the run, and with it that another try helps."""
    session = place.session()
    [[process]] = session.run("SELECT pg_backend_pid()")
    place.execute(f"SELECT pg_terminate_backend({process}, 5000)")
    with pytest.raises(DatabaseError, match="57P01"):
        session.run("SELECT 1")
    disconnect(session)
    disconnect(session)
