"""What the commands that call a function make of their words."""

from __future__ import annotations

import shlex
import subprocess

import pytest

from shared.errors import EventError
from tests.helpers.oracle.pages import ROOT
from tools import invoke


@pytest.mark.parametrize(
    ("words", "function", "event"),
    [
        (["ingest"], "ingest", {}),
        (["ingest", "--tables", "address, staff"], "ingest", {"tables": ["address", "staff"]}),
        (["reconcile"], "reconcile", {}),
        (
            ["replay", "--", "payment", "1", "500"],
            "ingest",
            {"replay": {"table": "payment", "from_row_id": 1, "to_row_id": 500}},
        ),
        (
            ["restore", "--", "payment", "changes/payment/0000000001.jsonl"],
            "ingest",
            {"restore": {"table": "payment", "key": "changes/payment/0000000001.jsonl"}},
        ),
    ],
    ids=["all", "some", "reconcile", "replay", "restore"],
)
def test_a_command_asks_a_function_for_something(words, function, event):
    options = invoke.parse(words)
    assert (options.function, invoke.event(options)) == (function, event)
    assert (options.stage, options.region, options.json) == ("prod", "eu-west-2", False)


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["inject"],
        ["ingest", "--tables", ","],
        ["reconcile", "--tables", "staff"],
        ["replay", "payment", "0"],
        ["replay", "payment", "0", "many"],
    ],
    ids=" ".join,
)
def test_wrong_words_end_with_status_2(words, capsys):
    with pytest.raises(SystemExit) as ended:
        invoke.main(words)
    assert ended.value.code == 2
    assert "usage: python -m tools.invoke" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["ingest", "--tables", "adress"], r"Unknown tables: \['adress'\]. The tables are payment"),
        (["replay", "adress", "0", "5"], "Unknown table: 'adress'. The tables are payment"),
        (["replay", "address", "5", "5"], "to replay row 5 alone, ask for 4 to 5"),
        (["replay", "--", "address", "-1", "5"], "ids below 1 are in neither stream"),
        (["restore", "address", "address/latest.json"], "is not the key of an object of 'address'"),
    ],
    ids=["ingest", "replay", "no range", "below 1", "restore"],
)
def test_what_the_function_would_refuse_is_not_sent(words, said):
    with pytest.raises(EventError, match=said):
        invoke.event(invoke.parse(words))
    with pytest.raises(SystemExit, match=said):
        invoke.main(words)


@pytest.mark.parametrize(
    ("where", "command"),
    [
        (["--stage", "dev"], "make replay TABLE=payment FROM=300 TO=500 STAGE=dev"),
        (
            ["--region", "eu-west-1"],
            "make replay TABLE=payment FROM=300 TO=500 STAGE=prod REGION=eu-west-1",
        ),
    ],
    ids=["make", "another region"],
)
def test_the_command_that_continues_a_replay_can_be_pasted(where, command):
    asked = invoke.parse(["replay", *where, "payment", "0", "500"])
    assert invoke.continuation(300, asked) == command


def test_the_command_that_continues_in_another_region_reaches_it():
    asked = invoke.parse(["replay", "--region", "eu-west-1", "payment", "0", "500"])
    _, *words = invoke.continuation(300, asked).split()
    done = subprocess.run(
        ["make", "--dry-run", "--no-print-directory", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    again = invoke.parse(shlex.split(done.stdout.partition("python -m tools.invoke ")[2]))
    assert (again.region, again.stage, again.from_row_id) == ("eu-west-1", "prod", 300)
