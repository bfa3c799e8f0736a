"""What docs/operating.md tells people to ask of the function, asked."""

from __future__ import annotations

import json
import re
import shlex
import subprocess

import pytest

from services.ingestion.handler import lambda_handler
from shared.tables import TABLES
from tests.helpers.oracle.pages import ROOT, blocks, page, section
from tests.helpers.runs.lambda_context import CONTEXT
from tools import invoke

GUIDE = page("docs/operating.md")
BY_HAND = section(GUIDE, "Run it by hand")


# Of each command: the function that it calls, and the event that it sends.
COMMANDS = {
    command: (function, json.loads(event))
    for command, function, event in re.findall(
        r"^\| `(make .*?)` \| `(\w+)` \| `(\{.*?\})` \|", BY_HAND, re.MULTILINE
    )
}


def test_every_event_is_accepted_and_does_what_it_says(deployed):
    events = [
        event
        for function, event in COMMANDS.values()
        if function == "ingest" and "restore" not in event
    ]
    whole, some, again = (lambda_handler(event, CONTEXT) for event in events)
    assert set(whole["tables"]) == set(TABLES)
    assert whole["rows"] > 0
    assert list(some["tables"]) == ["address"]
    assert again["replay"]["rows"] > 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_sends_the_event_beside_it(command):
    words = ["make", "--dry-run", "--no-print-directory", *shlex.split(command)[1:]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    _, _, sent = done.stdout.partition("python -m tools.invoke ")
    options = invoke.parse(shlex.split(sent))
    assert (options.function, invoke.event(options)) == COMMANDS[command]
    assert options.stage == "prod"


def test_the_command_for_a_replay_is_that_of_the_table():
    [said] = blocks(section(GUIDE, "Replay rows"), "")
    assert said.strip() in COMMANDS


def test_the_command_that_restores_an_object_is_that_of_the_table():
    said = blocks(section(GUIDE, "Restore an object"), "")[0]
    assert said.strip() in COMMANDS
