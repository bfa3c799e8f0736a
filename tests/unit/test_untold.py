"""The search of log lines for what no line may tell finds it."""

from __future__ import annotations

import pytest

from local.totesys.database import HASH_KEY, PASSWORD
from shared.telemetry import logger
from tests.helpers.oracle.untold import telling, untold


@pytest.mark.parametrize(
    "text",
    [
        PASSWORD,
        HASH_KEY,
        "ada.abbott@terrifictotes.com",
        "01803 637401",
        'The "Tote" Bag Company',
    ],
)
def test_what_is_logged_is_found(told, text):
    logger().info("Something", extra={"reason": f"it says {text}, and more"})
    assert len(told) == 1
    told.clear()


def test_letters_beyond_ascii_are_found_however_they_are_spelled():
    lines = ["佐藤 株式会社", r"12 Rue de l'Abb\u00e9\nB\u00e2timent C", "nothing"]
    assert telling(lines) == lines[:2]
    assert len(untold()) > 500
