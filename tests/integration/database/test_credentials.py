"""The database's password changes while the process is warm, and keeps the secret of before."""

from __future__ import annotations

from contextlib import closing

import pytest
from pg8000.native import literal

from local.totesys.database import PASSWORD
from services.ingestion.handler import lambda_handler as ingest_handler
from services.reconciliation.handler import lambda_handler as reconcile_handler
from shared.errors import SourceError
from shared.postgres.credentials import secrets_provider
from tests.helpers.runs.lambda_context import CONTEXT

pytestmark = pytest.mark.thorough

ROLE = "rotated"
ONE_TABLE = {"tables": ["department"]}
FIRST, SECOND, THIRD = (f"{PASSWORD}, {word}" for word in ("first", "second", "third"))
HANDLERS = pytest.mark.parametrize(
    "handler", [ingest_handler, reconcile_handler], ids=["ingest", "reconcile"]
)


@pytest.fixture
def set_password(server):
    """A role of our own, which reads what `reader` reads; call it to change the password."""

    def execute(sql):
        with closing(server.connect()) as connection:
            connection.run(sql)

    execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD {literal(FIRST)} IN ROLE reader")
    yield lambda password: execute(f"ALTER ROLE {ROLE} PASSWORD {literal(password)}")
    execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def reads(deployed, set_password):
    """How often the secret was read since the process is warm: an entry each."""
    deployed(username=ROLE, password=FIRST)
    made = []
    events = secrets_provider().client.meta.events
    events.register("before-send.secretsmanager", lambda **_: made.append("read"))
    ingest_handler(ONE_TABLE, CONTEXT)
    assert made == ["read"]
    made.clear()
    return made


@pytest.fixture
def refusals(server):
    """Return how many log-ins the server has refused in the test."""
    said = f'password authentication failed for user "{ROLE}"'

    def count():
        return server.log_path.read_text().count(said)

    before = count()
    return lambda: count() - before


@HANDLERS
def test_a_changed_password_is_read_afresh_once(deployed, set_password, reads, refusals, handler):
    set_password(SECOND)
    deployed(username=ROLE, password=SECOND)
    handler(ONE_TABLE, CONTEXT)  # it opens a session for each table, whatever the event
    ingest_handler(ONE_TABLE, CONTEXT)
    assert (reads, refusals()) == (["read"], 1)


def test_a_password_that_stays_wrong_is_one_error_after_one_read(set_password, reads, refusals):
    """And after one log-in: the server need not be asked twice about the same password."""
    set_password(SECOND)
    with pytest.raises(SourceError, match=r"28P01.* Put the right username and password"):
        ingest_handler(ONE_TABLE, CONTEXT)
    assert (reads, refusals()) == (["read"], 1)


def test_a_new_password_that_is_wrong_too_is_one_error_after_one_read(
    deployed, set_password, reads, refusals
):
    set_password(SECOND)
    deployed(username=ROLE, password=THIRD)
    with pytest.raises(SourceError, match="28P01") as failure:
        ingest_handler(ONE_TABLE, CONTEXT)
    assert type(failure.value) is SourceError
    assert (reads, refusals()) == (["read"], 2)


def test_a_fault_that_is_not_the_password_reads_nothing(set_password, reads, totesys):
    totesys.connect().run(f"REVOKE CONNECT ON DATABASE {totesys.name} FROM PUBLIC")
    with pytest.raises(SourceError, match="42501"):
        ingest_handler(ONE_TABLE, CONTEXT)
    assert reads == []
