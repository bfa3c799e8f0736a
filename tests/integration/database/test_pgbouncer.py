"""A real PgBouncer between us and the server, where one is installed."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import pytest

from local.totesys.database import ADMIN, READER
from services.ingestion import get_table_data, ingest
from shared.errors import SourceError
from shared.postgres.credentials import Credentials
from shared.postgres.session import connect
from tests.helpers.faults.pgbouncer import PGBOUNCER, PORT, pgbouncer
from tests.helpers.oracle import landed
from tests.helpers.writers.entries import READ, Interleaved

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not PGBOUNCER, reason="PgBouncer is not installed"),
]


def session(database, host):
    where = database.secret | {"host": host, "port": PORT}
    return closing(connect(Credentials(**where), Path(), 10))


@pytest.fixture
def lasting(database):
    """A table with an interval, which each role may spell its own way."""
    database.connect(ADMIN).run(
        "CREATE TABLE entry (entry_id serial PRIMARY KEY, lasts interval DEFAULT '1 mon'); "
        "INSERT INTO entry DEFAULT VALUES; INSERT INTO entry DEFAULT VALUES; "
        f'ALTER ROLE {READER} IN DATABASE "{database.name}" SET IntervalStyle = iso_8601'
    )
    return database


def test_pooled_by_session_it_is_exact(lasting, bucket):
    with pgbouncer(lasting, "session") as host, session(lasting, host) as reader:
        ingest(["entry"], bucket.client, reader, bucket.name)
    assert [row["lasts"] for row in landed.rows(bucket, "entry")] == ["1 mon", "1 mon"]


def test_pooled_by_transaction_it_is_exact_or_refused(lasting):
    with (
        pgbouncer(lasting, "transaction") as host,
        session(lasting, host) as reader,
        session(lasting, host) as other,
    ):
        assert get_table_data("entry", 0, reader)["lasts"].tolist() == ["1 mon"] * 2
        # Somebody else gets our backend between two statements, and we get another one.
        interrupted = Interleaved(reader, {READ: [lambda: other.run("BEGIN")]})
        with pytest.raises(SourceError, match="Connect to the database itself"):
            get_table_data("entry", 0, interrupted)
        other.run("COMMIT")
