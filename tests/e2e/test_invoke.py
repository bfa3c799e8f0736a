"""The commands that call the functions of a deployed stage, called."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from local import REPOSITORY, totesys
from shared.tables import TABLES
from tests.helpers.faults import stage_faults

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.aws.function_log import FunctionLog
    from local.stage import LocalStage

pytestmark = pytest.mark.e2e


def invoke(stage: LocalStage, *words: str) -> subprocess.CompletedProcess[str]:
    command, *more = words
    return subprocess.run(
        [sys.executable, "-m", "tools.invoke", command, "--stage", "local", *more],
        cwd=REPOSITORY,
        env=stage.aws.subprocess_environ(),
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def caught_up(stage: LocalStage) -> LocalStage:
    assert stage.run().status == "SUCCEEDED"
    return stage


def request_ids(log: FunctionLog) -> list[str]:
    return re.findall(r"^START RequestId: (\S+)", "\n".join(log.lines()), re.MULTILINE)


def called(log: FunctionLog, before: Sequence[str]) -> str:
    """Return the request id of the one call that was made since; fail if there were more."""
    [request_id] = request_ids(log)[len(before) :]
    return request_id


def test_ingest_calls_once_and_shows_the_log_and_what_landed(caught_up: LocalStage):
    totesys.add_events(caught_up.database, 2)
    before = request_ids(caught_up.log)
    done = invoke(caught_up, "ingest")
    assert (done.returncode, done.stderr) == (0, "")
    short = called(caught_up.log, before)[:8]
    lines = done.stdout.splitlines()
    assert lines[0] == (
        "Calling totesys-ingestion-local-ingest in eu-west-2, for at most 240 s. Its log:"
    )
    # A call that ended in the same second may be there, too: AWS tells its clock by the second.
    logged = [line for line in lines if line.startswith(f"  {short} ") and " INFO " in line]
    assert len(logged) == len(set(logged)) == len(TABLES) + 1
    assert any("Table ingested: table=payment rows=2 " in line for line in logged)
    assert any(line.startswith(f"Call {short} succeeded after ") for line in lines)
    [payment] = [line.split() for line in lines if line.startswith("payment ")]
    assert payment[1] == "2"
    assert payment[-1] == caught_up.landed.keys("payment")[-1]
    assert re.fullmatch(r"Landed: 6 new rows, \d+ changes\.", lines[-1])


def test_ingest_of_some_tables_for_machines(caught_up: LocalStage):
    totesys.add_events(caught_up.database, 1)
    done = invoke(caught_up, "ingest", "--tables", "payment,staff", "--json")
    assert done.returncode == 0
    answer = json.loads(done.stdout)
    assert set(answer["tables"]) == {"payment", "staff"}
    assert answer["rows"] == 1
    assert "Table ingested: table=payment rows=1 " in done.stderr


def test_reconcile_succeeds_if_all_has_landed_and_fails_if_not(caught_up: LocalStage):
    before = request_ids(caught_up.reconcile_log)
    done = invoke(caught_up, "reconcile")
    assert done.returncode == 0, done.stdout
    called(caught_up.reconcile_log, before)
    assert "for at most 900 s" in done.stdout
    assert "No row is missing, and no object is broken. The report: s3://local-" in done.stdout
    key = caught_up.landed.keys("department")[0]
    with stage_faults.object_deleted(caught_up, key):
        done = invoke(caught_up, "reconcile")
    assert done.returncode == 1
    [department] = [line for line in done.stdout.splitlines() if line.startswith("department ")]
    assert re.split(r"  +", department)[-4:] == ["8", "0", "0", "1"]
    assert re.search(f" ERROR .*key={key} ", done.stdout)
    assert "docs/operating.md says what to do, under Reconciliation findings." in done.stdout


def test_replay_lands_rows_again(caught_up: LocalStage):
    before = request_ids(caught_up.log)
    done = invoke(caught_up, "replay", "--", "payment", "0", "500")
    assert done.returncode == 0, done.stderr
    called(caught_up.log, before)
    [key] = re.findall(r"^s3://local-ingestion-bucket/(changes/.*)$", done.stdout, re.MULTILINE)
    ids = [json.loads(line)["payment_id"] for line in caught_up.landed.read(key).splitlines()]
    landed = [row["payment_id"] for row in caught_up.landed.lines("payment")]
    assert ids == [each for each in landed if each <= 500]


def test_restore_lands_a_lost_object_again(caught_up: LocalStage):
    key = caught_up.landed.keys("department")[0]
    body = caught_up.landed.read(key)
    with stage_faults.object_lost(caught_up, key):
        done = invoke(caught_up, "restore", "--", "department", key)
        assert done.returncode == 0, done.stderr
        assert caught_up.landed.read(key) == body
        again = invoke(caught_up, "restore", "--", "department", key)
        assert again.returncode == 1
        assert "is there, and nothing overwrites an object" in again.stderr


def test_a_failure_of_the_function_is_one_of_the_command(stage: LocalStage):
    before = request_ids(stage.log)
    with stage_faults.wrong_password(stage):
        done = invoke(stage, "ingest")
    assert done.returncode == 1
    short = called(stage.log, before)[:8]
    assert re.search(rf"^  {short} \S+ ERROR The run failed: ", done.stdout, re.MULTILINE)
    assert done.stderr.startswith("totesys-ingestion-local-ingest failed: SourceError: ")
    assert "password" in done.stderr


def test_a_call_that_takes_too_long_is_said_with_its_remedy(caught_up: LocalStage):
    with stage_faults.too_slow(caught_up):
        done = invoke(caught_up, "ingest")
    assert done.returncode == 1
    assert done.stderr.startswith("totesys-ingestion-local-ingest failed: Sandbox.Timedout: ")
    assert "batchRows is too high for timeoutSeconds" in done.stderr


def test_an_unknown_table_is_refused_before_anything_is_called(stage: LocalStage):
    before = request_ids(stage.log)
    done = invoke(stage, "ingest", "--tables", "adress")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Unknown tables: ['adress']. The tables are payment, " in done.stderr
    assert request_ids(stage.log) == before
