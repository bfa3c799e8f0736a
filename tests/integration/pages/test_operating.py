"""What docs/operating.md tells people to ask of the function, asked."""

from __future__ import annotations

import json
import re

from services.ingestion.handler import lambda_handler
from shared.tables import TABLES
from tests.helpers.oracle.pages import blocks, page, section
from tests.helpers.runs.lambda_context import CONTEXT

GUIDE = page("docs/operating.md")


def test_every_event_is_accepted_and_does_what_it_says(deployed):
    table = section(GUIDE, "Run it by hand")
    events = [json.loads(text) for text in re.findall(r"^\| `(\{.*\})` \|", table, re.MULTILINE)]
    whole, some, again = (lambda_handler(event, CONTEXT) for event in events)
    assert set(whole["tables"]) == set(TABLES)
    assert whole["rows"] > 0
    assert list(some["tables"]) == ["address"]
    assert again["replay"]["rows"] > 0


def test_the_command_for_a_replay_asks_what_the_table_of_events_asks():
    [said] = re.findall(r"--data '(.*)'", "".join(blocks(section(GUIDE, "Replay rows"), "")))
    assert f"`{said}`" in section(GUIDE, "Run it by hand")
