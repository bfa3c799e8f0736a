"""The change stream where ids of transactions can't be compared, or have gone round the circle."""

from __future__ import annotations

import shutil
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from local.totesys.database import Server
from local.totesys.postgres import Programs
from tests.conftest import Database
from tests.helpers.runs.changing import INSERT, SCHEMA, changed, check_both, update, write
from tests.helpers.runs.place import Place
from tests.helpers.servers import only_in_the_wheel, since

pytestmark = pytest.mark.thorough

ROUND = 2**32


@contextmanager
def cluster(directory):
    """Run a server on a cluster that outlives it, with a database `things`."""
    is_new = not directory.exists()
    with Server.start(directory) as server:
        if is_new:
            server.create_database("things")
        with closing(Database(server, "things")) as database:
            yield database


def place_in(database, bucket):
    return Place(database, bucket, ["thing"], {}, with_changes=True)


def warnings(log_lines):
    """Return why tables were looked at as a whole."""
    return [line["because"] for line in log_lines() if "because" in line]


def burn(place, transactions):
    """Let the cluster give out ids of transactions."""
    session = place.database.connect()
    session.run(
        "CREATE OR REPLACE PROCEDURE burn(n int) LANGUAGE plpgsql AS $$ BEGIN FOR i IN 1..n LOOP"
        " PERFORM pg_current_xact_id(); COMMIT; END LOOP; END $$"
    )
    session.run(f"CALL burn({transactions})")


def set_next_xid(directory, scratch, xid):
    """Let a stopped cluster go on from an id, as if it had given out all below."""
    programs = Programs(scratch)
    # All rows are frozen; the status of the ids from here on is not there yet.
    programs.run("pg_resetwal", "-x", str(xid), "-u", str(xid - 1000), "-D", directory)
    segment = directory / "pg_xact" / f"{xid // (32_768 * 32):04X}"
    segment.write_bytes(bytes(32 * 8192))
    programs.own(directory)


@pytest.fixture
def folder():
    """A folder that the server's user gets into; into pytest's own it does not."""
    with TemporaryDirectory(prefix="pg-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture
def directory(folder):
    """Where the cluster lives."""
    return folder / "cluster"


@only_in_the_wheel()
def test_ids_go_round_the_circle(directory, folder, bucket, log_lines):
    with cluster(directory) as database:
        place = place_in(database, bucket)
        write(place, SCHEMA, INSERT)
        place.run()
        for name in ("things", "postgres", "template1"):
            with closing(database.server.connect(name)) as session:
                session.run("VACUUM FREEZE")
    set_next_xid(directory, folder, ROUND - 100)
    with cluster(directory) as database:
        place = place_in(database, bucket)
        write(place, update(1))
        place.run()
        assert warnings(log_lines) == [
            "more than 2^31 transactions have passed since the last scan"
        ]
        assert changed(place) == [[1, 2, 3]]
        writer = database.connect()
        writer.run(f"BEGIN; {update(3)}")
        write(place, update(2))
        place.run()
        assert changed(place)[1:] == [[2]]
        burn(place, 200)
        assert database.connect().run("SELECT pg_current_xact_id()::text::bigint")[0][0] > ROUND
        write(place, update(1), INSERT)
        place.run()
        assert changed(place)[2:] == [[1, 2]]  # the base is before the turn, the update after it
        writer.run("COMMIT; SELECT pg_stat_force_next_flush()")
        place.run()
        place.run()
        assert changed(place)[3:] == [[1, 2, 3, 4, 5, 6]]
        write(place, update(6))
        place.run()
        assert changed(place)[4:] == [[6]]
        assert len(warnings(log_lines)) == 1
        check_both(place)


@since(15)
def test_a_restart_is_no_break_and_a_crash_is_one(directory, bucket, log_lines):
    """After a crash, ids that were seen in use may be given out once more."""
    with cluster(directory) as database:
        place = place_in(database, bucket)
        write(place, SCHEMA, INSERT)
        place.run()
        database.server.restart()
        write(place, update(1))
        place.run()
        assert changed(place) == [[1]]
        assert warnings(log_lines) == []
        database.server.restart("immediate")
        place.run()
        assert changed(place) == [[1], [1, 2, 3]]
        assert "crashed" in warnings(log_lines)[0]
        place.run()
        assert len(changed(place)) == 2
        check_both(place)


@pytest.mark.long
@pytest.mark.parametrize("burnt", [0, 500], ids=["behind", "ahead again"])
def test_a_backup_was_restored(directory, folder, bucket, log_lines, burnt):
    backup = folder / "backup"
    with cluster(directory) as database:
        place = place_in(database, bucket)
        write(place, SCHEMA, INSERT)
        place.run()
        with closing(database.server.connect("things")) as session:
            [[started]] = session.run("SELECT pg_backup_start('b', true)")
            assert started
            shutil.copytree(directory, backup)
            [[_, label, _]] = session.run("SELECT * FROM pg_backup_stop(false)")
        (backup / "backup_label").write_text(label)
        (backup / "postmaster.pid").unlink()
        shutil.copytree(directory / "pg_wal", backup / "pg_wal", dirs_exist_ok=True)
        burn(place, 100)
        write(place, update(1))
        place.run()
    with cluster(backup) as database:
        place = place_in(database, bucket)
        burn(place, burnt)
        write(place, update(2))
        place.run()
        assert changed(place) == [[1], [1, 2, 3]]
        assert "restored" in warnings(log_lines)[0]
        place.run()
        assert len(changed(place)) == 2
        check_both(place)


@pytest.mark.long
def test_a_copy_of_a_stopped_cluster_was_restored(directory, folder, bucket, log_lines):
    """It remembers its statistics, so that only ids which went back tell."""
    backup = folder / "backup"
    with cluster(directory) as database:
        place = place_in(database, bucket)
        write(place, SCHEMA, INSERT)
        place.run()
    shutil.copytree(directory, backup)
    with cluster(directory) as database:
        place = place_in(database, bucket)
        burn(place, 100)
        write(place, update(1))
        place.run()
    with cluster(backup) as database:
        place = place_in(database, bucket)
        write(place, update(2))
        place.run()
        assert changed(place) == [[1], [1, 2, 3]]
        assert "went back" in warnings(log_lines)[0]
        check_both(place)
