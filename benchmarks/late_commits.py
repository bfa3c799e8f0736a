"""`python -m benchmarks.late_commits`: the storm of the tests, read by us and by dlt.

Each reads the same table of the same storm on a server of its own, a tick a second.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.peers.venv import peers_python
from local.storms.storm import Figures, Read, storm
from local.storms.writers import PLAIN, create_tables
from local.totesys.database import Server
from services.ingestion.new_rows import read_new_rows
from shared.tables import Table

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from pg8000.native import Connection

SECONDS = 25.0
TICK_SECONDS = 1.0
LONGEST_SECONDS = 4.0
DATABASE = "storm"


@dataclass
class OurReader:
    """Reads new rows from where the last call ended."""

    connection: Connection
    row_id: int = 0

    def __call__(self) -> Read:
        """Return what is new."""
        batch = read_new_rows(Table(PLAIN), self.row_id, self.connection)
        ids = batch.ids.tolist()
        self.row_id = max([self.row_id, *ids])
        return Read(ids, batch.waited, batch.held_back)


@contextmanager
def dlt_reader(python: Path, server: Server) -> Iterator[Callable[[], Read]]:
    """The incremental load of dlt, in a process of the peers' Python."""
    url = f"postgresql+psycopg2://postgres@/{DATABASE}?host={server.host}&port={server.port}"
    script = Path(__file__).parent / "peers" / "dlt_incremental.py"
    with (
        tempfile.TemporaryDirectory() as folder,
        subprocess.Popen(
            [python, script, url, PLAIN, f"{PLAIN}_id", folder],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        assert process.stdin
        assert process.stdout
        commands, answers = process.stdin, process.stdout
        print(f"dlt {json.loads(answers.readline())}")

        def read() -> Read:
            print("tick", file=commands, flush=True)
            return Read(json.loads(answers.readline()))

        yield read
        commands.close()


def measure(open_reader: Callable[[Server], AbstractContextManager[Callable[[], Read]]]) -> Figures:
    """Return how a reader came through the storm."""
    with Server.start(settings={"max_prepared_transactions": 50}) as server:
        server.create_database(DATABASE)
        create_tables(server.connect(DATABASE))
        with open_reader(server) as read:
            figures, _ = storm(
                lambda: server.connect(DATABASE),
                {PLAIN: read},
                seconds=SECONDS,
                tick_seconds=TICK_SECONDS,
                longest_seconds=LONGEST_SECONDS,
            )
    return figures[PLAIN]


@contextmanager
def our_reader(server: Server) -> Iterator[Callable[[], Read]]:
    """Our reader on a connection of its own."""
    yield OurReader(server.connect(DATABASE))


def main() -> int:
    """Print the figures of both side by side; 1 if ours were not exact."""
    ours = measure(our_reader)
    columns = {"totesys-ingestion": ours}
    if python := peers_python():
        columns["dlt"] = measure(lambda server: dlt_reader(python, server))
    print(f"{'':22}" + "".join(f"{name:>20}" for name in columns))
    for field in Figures.__dataclass_fields__:
        print(f"{field:22}" + "".join(f"{getattr(f, field):>20}" for f in columns.values()))
    return 0 if ours.is_exact else 1


if __name__ == "__main__":
    sys.exit(main())
