"""What `make local` prints: of each tick, and commands to paste, which all run as they are."""

from __future__ import annotations

import os
import re
import subprocess
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from local import REPOSITORY, serve, totesys
from local.aws.schedule import scheduled
from local.cloudwatch.live import LiveAlarms
from shared.tables import TABLES

if TYPE_CHECKING:
    from local.stage import LocalStage

pytestmark = pytest.mark.e2e


@pytest.fixture
def explained(stage: LocalStage, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What is printed when a stage is up, by lines."""
    assert stage.run().status == "SUCCEEDED"
    serve.explain(stage)
    return capsys.readouterr().out.splitlines()


def pasted(explained: list[str], command: str) -> str:
    """Paste into a shell of somebody who has another account's profile and a proxy."""
    setup = [line for line in explained if line.startswith(("cd ", "unset ", "export "))]
    assert len(setup) == 9
    done = subprocess.run(
        ["bash", "-ec", "\n".join([*setup, command])],
        env={
            "HOME": "/nonexistent",
            "PATH": os.environ["PATH"],
            "AWS_PROFILE": "somebody",
            "HTTPS_PROXY": "http://127.0.0.1:9",
        },
        cwd="/",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def commands(explained: list[str]) -> list[str]:
    return [line.partition(" #")[0].strip() for line in explained if " # " in line]


@pytest.mark.long
def test_every_command_to_paste_runs(stage: LocalStage, explained: list[str]):
    printed = commands(explained)
    assert len(printed) == 10
    said = {}
    for command in printed:
        if command == "npx sls deploy --stage local":
            continue  # takes a minute; test_away_and_back deploys again
        said[command] = pasted(explained, command.replace(" totesys", " totesys -c 'SELECT 41+1'"))
    by_table, keys, latest, status, queried, called, invoked, logs, psql = said.values()
    assert len(by_table.splitlines()) == 1 + len(TABLES)
    key = stage.landed.keys("sales_order")[-1]
    assert key in by_table
    assert key in keys.splitlines()
    assert latest.encode() == stage.landed.read("sales_order/latest.json")
    assert key in status
    assert {"GBP", "USD", "EUR"} <= {line.split()[1] for line in queried.splitlines()[1:]}
    assert "succeeded after" in called
    assert '"tables": {' in invoked
    assert "Run ended" in logs
    assert "42" in psql


def test_it_says_how_to_stop_it(explained: list[str]):
    [line] = [line for line in explained if "To stop it" in line]
    assert line.endswith(f"kill {os.getpid()}")


def tick(stage: LocalStage, capsys: pytest.CaptureFixture[str]) -> str:
    [target] = scheduled(stage.aws.client("events"))
    serve.tick(stage, target, LiveAlarms(stage))
    return re.sub(r"\d\d:\d\d:\d\d|\d+\.\d", "N", capsys.readouterr().out).strip()


def test_a_tick_says_what_is_new_and_what_changed(stage: LocalStage, capsys):
    assert stage.run().status == "SUCCEEDED"
    assert tick(stage, capsys) == "N SUCCEEDED in N s: nothing new"
    totesys.add_events(stage.database, 1)
    stage.database.run("UPDATE currency SET currency_code = currency_code WHERE currency_id < 3")
    stage.database.run("SELECT pg_stat_force_next_flush()")  # or a later run notices
    said = tick(stage, capsys)
    assert "payment 1" in said
    assert said.endswith(" new; currency 2 changed")


def test_functions_are_called_when_their_schedule_says(stage: LocalStage):
    assert stage.run().status == "SUCCEEDED"
    functions, alarms = serve.ScheduledFunctions(stage), LiveAlarms(stage)
    now = datetime.now(UTC)
    night = now.replace(hour=2, minute=15, second=0, microsecond=0)
    night += timedelta(days=night <= now)
    assert functions.call_due(night - timedelta(seconds=1), alarms) == []
    said = [f"{stage.reconcile_name} succeeded: cron(15 2 * * ? *)"]
    assert functions.call_due(night, alarms) == said
    assert functions.call_due(night, alarms) == []
    assert functions.call_due(night + timedelta(days=1), alarms) == said


def test_what_is_asked_for_and_is_not_there(explained: list[str]):
    done = subprocess.run(
        ["python", "-m", "local.show"],
        env={"PATH": os.environ["PATH"]},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("AWS_ENDPOINT_URL is not set: paste")
    with pytest.raises(AssertionError, match="Nothing has landed as nonsense"):
        pasted(explained, "python -m local.show nonsense")
