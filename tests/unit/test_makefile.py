"""What the Makefile passes on, and what it says while it works."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import yaml

from local.aws.stand_in import REGION as LOCAL_REGION
from tools.stages import REGION

ROOT = Path(__file__).resolve().parents[2]


def commands(*arguments):
    """What make would run, without running it."""
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout


@pytest.mark.parametrize(
    ("given", "passed_on"),
    [
        (["local"], "python -m local.serve --interval 600 --new-events 0\n"),
        (
            ["local", "INTERVAL=5", "NEW_EVENTS=7"],
            "python -m local.serve --interval 5 --new-events 7\n",
        ),
        (["status"], "python -m tools.status --stage prod \n"),
        (["status", "STAGE=dev", "JSON=1"], "python -m tools.status --stage dev --json\n"),
        (["ingest"], "python -m tools.invoke ingest --stage prod  \n"),
        (
            ["ingest", "STAGE=dev", "TABLES=address, staff", "JSON=1"],
            "python -m tools.invoke ingest --stage dev --tables 'address, staff' --json\n",
        ),
        (["load", "TABLE=payment"], "python -m tools.load --stage prod   -- 'payment'\n"),
        (
            ["load", "TABLE=payment", "STAGE=dev", "WORKERS=4", "REGION=eu-west-1", "JSON=1"],
            "tools.load --stage dev --region eu-west-1 --workers '4' --json -- 'payment'\n",
        ),
        (["reconcile"], "python -m tools.invoke reconcile --stage prod   \n"),
        (["reconcile", "JSON=1"], "python -m tools.invoke reconcile --stage prod   --json\n"),
        (
            ["reconcile", "TABLE=payment", "ACCEPT_DELETES=3000"],
            "reconcile --stage prod --table 'payment' --accept-deletes '3000' \n",
        ),
        (
            ["replay", "STAGE=dev", "TABLE=address", "FROM=-1", "TO=500"],
            "python -m tools.invoke replay --stage dev  -- 'address' '-1' '500'\n",
        ),
        (["status", "REGION=eu-west-1"], "--stage prod --region eu-west-1 \n"),
        (["ingest", "REGION=eu-west-1"], "ingest --stage prod --region eu-west-1  \n"),
        (["reconcile", "REGION=eu-west-1"], "reconcile --stage prod --region eu-west-1   \n"),
        (
            ["replay", "REGION=eu-west-1", "TABLE=address", "FROM=0", "TO=5"],
            "replay --stage prod --region eu-west-1  -- 'address' '0' '5'\n",
        ),
        (
            ["contract", "TABLE=address", "STAGE=prod", "REGION=eu-west-1"],
            "'address' --stage prod --region eu-west-1 \n",
        ),
        (["query"], "python -m tools.query --stage prod \n"),
        (
            ["query", "STAGE=dev", "REGION=eu-west-1", "JSON=1", "SQL=SELECT '$1'"],
            'python -m tools.query --stage dev --region eu-west-1 --json -- "$QUERY"\n',
        ),
        (["doctor"], "python -m tools.doctor --stage prod \n"),
        (["doctor", "STAGE=dev", "JSON=1"], "python -m tools.doctor --stage dev --json\n"),
        (["contract", "TABLE=address"], "python -m tools.contract 'address'  \n"),
        (
            ["contract", "TABLE=a b", "STAGE=dev", "FORCE=1"],
            "python -m tools.contract 'a b' --stage dev --force\n",
        ),
    ],
)
def test_variables_reach_the_command(given, passed_on):
    assert commands(*given).endswith(passed_on)


@pytest.mark.parametrize("sql", ["SELECT 'it''s', $1 ~ '^$(x$' -- `x`\nFROM \"a\"", "\\"])
def test_sql_reaches_the_command_as_it_was_written(sql, tmp_path):
    """With a python that prints what it gets."""
    script = tmp_path / "python"
    script.write_text('#!/bin/sh\nfor word; do last=$word; done\nprintf %s "$last"\n')
    script.chmod(0o755)
    rule = re.sub(r"^query: setup", "query:", (ROOT / "Makefile").read_text(), flags=re.MULTILINE)
    done = subprocess.run(
        ["make", "--no-print-directory", "-f", "-", "query", f"SQL={sql}"],
        input=rule.replace("$(CURDIR)/.venv/bin:", f"{tmp_path}:"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == sql


@pytest.mark.parametrize("missing", ["TABLE", "FROM", "TO"])
def test_a_replay_of_no_rows_says_what_is_to_be_named(missing):
    given = {"TABLE": "address", "FROM": "0", "TO": "500"} | {missing: ""}
    done = subprocess.run(
        ["make", "--no-print-directory", "replay", *map("=".join, given.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == "Which rows? make replay TABLE=payment FROM=0 TO=500\n"


def test_a_load_of_nothing_says_what_is_to_be_named():
    done = subprocess.run(
        ["make", "--no-print-directory", "load"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout == "Which one? make load TABLE=payment\n"


@pytest.mark.parametrize("missing", ["TABLE", "KEY"])
def test_a_restoring_of_nothing_says_what_is_to_be_named(missing):
    given = {"TABLE": "address", "KEY": "claims/address/0.json"} | {missing: ""}
    done = subprocess.run(
        ["make", "--no-print-directory", "restore", *map("=".join, given.items())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stdout.startswith("Which object? make restore TABLE=payment KEY=payment/1526-")


def test_setup_says_what_it_does_step_by_step():
    said = commands("setup", "--what-if=requirements.txt", "--what-if=package.json")
    steps = [line.split()[1:3] for line in said.splitlines() if line.startswith("echo ")]
    assert [" ".join(step).strip('"') for step in steps] == [
        *("Making .venv", "Installing requirements.txt", "Installing package.json")
    ]


def test_the_default_region_is_where_it_is_deployed():
    deployed = yaml.safe_load((ROOT / "serverless.yml").read_text())["provider"]["region"]
    assert {REGION, LOCAL_REGION} == {deployed}
