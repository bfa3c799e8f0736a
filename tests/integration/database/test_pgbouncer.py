"""A real PgBouncer between us and the server, where one is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from local.totesys.database import ADMIN, PASSWORD, READER
from local.totesys.postgres import SERVER_USER
from services.ingestion import get_table_data, ingest
from shared.errors import SourceError
from shared.postgres.credentials import Credentials
from shared.postgres.session import connect
from tests.helpers.oracle import landed
from tests.helpers.writers.entries import READ, Interleaved

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin") or ""
PORT = 6432

pytestmark = [
    pytest.mark.thorough,
    pytest.mark.skipif(not PGBOUNCER, reason="PgBouncer is not installed"),
]


@contextmanager
def pgbouncer(database, pool_mode):
    """Run it; yield the folder of its socket."""
    server = database.server
    with tempfile.TemporaryDirectory(dir="/tmp", prefix="pgb-") as name:
        folder = Path(name)
        (folder / "users.txt").write_text(f'"{READER}" "{PASSWORD}"\n')
        settings = folder / "pgbouncer.ini"
        settings.write_text(
            f"[databases]\n{database.name} = host={server.host} port={server.port}\n"
            f"[pgbouncer]\npool_mode = {pool_mode}\nauth_type = scram-sha-256\n"
            f"auth_file = {folder}/users.txt\nlisten_port = {PORT}\nlisten_addr =\n"
            f"unix_socket_dir = {folder}\nlogfile = {folder}/log\ndefault_pool_size = 2\n"
            "server_round_robin = 1\n"
        )
        folder.chmod(0o777)
        running = subprocess.Popen(
            [PGBOUNCER, settings],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            user=SERVER_USER if os.geteuid() == 0 else None,
        )
        try:
            deadline = time.monotonic() + 20
            while not (folder / f".s.PGSQL.{PORT}").exists():
                assert running.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline
            yield name
        finally:
            running.terminate()
            running.wait()


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
