"""What a session of ours may do, how long it waits, and which errors are worth another try."""

from __future__ import annotations

import os
import signal
import socket
import threading
from contextlib import contextmanager

import pytest
from pg8000.exceptions import DatabaseError

from local.totesys.database import ADMIN
from services.ingestion import get_table_data
from services.ingestion.handler import lambda_handler
from shared.errors import PipelineError, SourceError, SourceUnavailableError
from shared.postgres.session import disconnect
from tests.helpers.runs.lambda_context import CONTEXT
from tests.helpers.runs.place import Place
from tests.helpers.runs.sessions import FAILING, FAILING_VIEW, session_of_the_function, socket_of
from tests.helpers.writers.entries import Entries, wait_for

pytestmark = pytest.mark.thorough

ONE_TABLE = {"tables": ["department"]}
STATEMENT_TIMEOUT = 10  # seconds, as `deployed` sets it


@pytest.fixture
def session(deployed):
    """The function's session, of a role that may do anything: only the session forbids it."""
    deployed(username=ADMIN)
    with session_of_the_function() as connection:
        yield connection


@contextmanager
def otherwise(act):
    """Act after five seconds: what hangs for ever without it fails then."""
    timer = threading.Timer(5, act)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()


WRITES = [
    "INSERT INTO department SELECT * FROM department",
    "UPDATE department SET manager = 'nobody'",
    "DELETE FROM payment",
    "TRUNCATE payment",
    "SELECT nextval('department_department_id_seq')",
    "SELECT FROM department FOR UPDATE",
    "CREATE TABLE mine ()",
    "DROP TABLE payment",
]


def test_nobody_can_write_whatever_the_role_may(session):
    for statement in WRITES:
        with pytest.raises(DatabaseError) as refused:
            session.run(statement)
        assert refused.value.args[0]["C"] == "25006", statement


def test_the_server_ends_what_takes_too_long(session):
    shown = {
        "statement_timeout": "10s",
        "lock_timeout": "5s",
        "idle_in_transaction_session_timeout": "10s",
    }
    assert {name: session.run(f"SHOW {name}")[0][0] for name in shown} == shown


def test_people_see_whose_session_it_is(session):
    assert session.run("SHOW application_name") == [["totesys-ingestion"]]


def in_a_hurry(database, bucket):
    """Open a session that gives a statement 50 ms, and a lock 25."""
    place = Place(database, bucket, [], {}, statement_timeout_seconds=0.05)  # type: ignore[arg-type]
    return place.session()


def test_a_statement_that_takes_too_long_is_worth_another_try(database, bucket):
    writer = database.connect()
    writer.run("CREATE VIEW thing AS SELECT 1 AS thing_id, pg_sleep(60)::text AS name")
    session = in_a_hurry(database, bucket)
    with pytest.raises(SourceUnavailableError, match="57014"):
        get_table_data("thing", 0, session)
    disconnect(session)


def test_a_lock_is_not_waited_for_as_long_as_a_statement_may_take(database, bucket):
    """So that the error says what it waited for."""
    writer = database.connect()
    writer.run("CREATE TABLE thing (thing_id serial)")
    writer.run("BEGIN")
    writer.run("LOCK TABLE thing")
    session = in_a_hurry(database, bucket)
    with pytest.raises(DatabaseError) as refused:
        session.run("SELECT FROM thing")
    assert refused.value.args[0]["C"] == "55P03"
    disconnect(session)


# --- the socket ---


def test_a_socket_waits_for_a_statement_and_not_for_ever(session):
    """It must not give up before the server does."""
    timeout = socket_of(session.connection).gettimeout()
    assert timeout is not None
    assert STATEMENT_TIMEOUT < timeout <= STATEMENT_TIMEOUT + 10


def test_a_server_that_falls_silent_in_a_statement_is_worth_another_try(database, bucket):
    entries = Entries(database)
    entries.add()
    session = Place(database, bucket, [], {}).session()
    timeout = socket_of(session).gettimeout()
    assert timeout is not None
    socket_of(session).settimeout(timeout / 50)
    [[process]] = session.run("SELECT pg_backend_pid()")
    os.kill(process, signal.SIGSTOP)
    try:
        with (
            otherwise(lambda: os.kill(process, signal.SIGCONT)),
            pytest.raises(SourceUnavailableError, match="does not answer"),
        ):
            get_table_data("entry", 0, session)
    finally:
        os.kill(process, signal.SIGCONT)
    disconnect(session)


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr("shared.postgres.session.CONNECT_TIMEOUT_SECONDS", 0.2)


def times_out(event=ONE_TABLE):
    with pytest.raises(SourceUnavailableError, match=r"does not answer: .*timed out"):
        lambda_handler(event, CONTEXT)


def test_a_host_that_takes_the_call_and_says_nothing(deployed, impatient):
    with socket.create_server(("127.0.0.1", 0)) as silent, otherwise(silent.close):
        deployed(host="127.0.0.1", port=silent.getsockname()[1])
        times_out()


def test_a_host_that_does_not_take_the_call(deployed, impatient):
    """As a security group does that drops packets: nobody says no."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, otherwise(full.close):
        waiting = []
        for _ in range(4):  # until the system queues no more of them
            caller = socket.socket()
            caller.setblocking(False)
            caller.connect_ex(full.getsockname())
            waiting.append(caller)
        deployed(host="127.0.0.1", port=full.getsockname()[1])
        times_out()
        for caller in waiting:
            caller.close()


def test_a_peer_that_went_away_without_a_word_is_noticed(deployed, impatient, monkeypatch):
    """The system asks it now and then, even while it owes us nothing."""
    opened = []
    create = socket.create_connection

    def note(*arguments, **options):
        connected = create(*arguments, **options)
        opened.append(connected.dup())
        return connected

    monkeypatch.setattr(socket, "create_connection", note)
    with socket.create_server(("127.0.0.1", 0)) as silent, otherwise(silent.close):
        deployed(host="127.0.0.1", port=silent.getsockname()[1])
        times_out()
    [connected] = opened
    with connected:
        assert connected.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


# --- after a call ---

OURS = "SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = 'totesys-ingestion'"


@pytest.mark.parametrize("event", [ONE_TABLE, {"tables": ["payment"]}], ids=["lands", "fails"])
def test_no_session_outlives_a_call(deployed, totesys, event):
    """A warm process would keep one for each call."""
    connection = totesys.connect()
    connection.run("ALTER TABLE payment RENAME payment_id TO id")
    try:
        lambda_handler(event, CONTEXT)
    except PipelineError as error:
        kept = error  # as the runtime does, with all its frames
        assert "payment" in str(kept)
    wait_for(connection, OURS)


# --- what is worth another try ---

TRANSIENT = [
    *("08000", "08006", "40001", "40P01", "53000", "53100", "53200", "53300", "55000", "55006"),
    *("55P03", "57000", "57014", "57P01", "57P02", "57P03", "57P05", "58000", "58030"),
]
LASTING = [
    *("0A000", "22003", "22P02", "23505", "25006", "28000", "3D000", "42501", "42703", "42P01"),
    *("54000", "P0001", "XX000", "XX001"),
]


def test_the_servers_code_says_whether_another_try_helps(database):
    writer, reader = database.connect(), database.connect("reader")
    writer.run(FAILING)
    for code in (*TRANSIENT, *LASTING):
        writer.run(FAILING_VIEW.format(code=code))
        with pytest.raises(PipelineError, match=f"SQLSTATE {code}") as failed:
            get_table_data("thing", 0, reader)
        expected = SourceUnavailableError if code in TRANSIENT else SourceError
        assert type(failed.value) is expected, code
        assert failed.value.transient is (code in TRANSIENT)
