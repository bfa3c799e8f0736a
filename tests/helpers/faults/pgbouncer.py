"""A real PgBouncer between us and the server, where one is installed."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from local.totesys.database import PASSWORD, READER
from local.totesys.postgres import SERVER_USER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.conftest import Database

PGBOUNCER = shutil.which("pgbouncer", path=f"{os.environ['PATH']}:/usr/sbin") or ""
PORT = 6432


@contextmanager
def pgbouncer(database: Database, pool_mode: str) -> Iterator[str]:
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
