"""What README promises in numbers."""

from __future__ import annotations

import re
from pathlib import Path

README = (Path(__file__).resolve().parents[2] / "README.md").read_text()


def minutes_to_fire() -> dict[str, int]:
    """Return how many minutes each alarm may take, by its name."""
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| (\d+) (min|h) \|$", README, re.MULTILINE)
    return {alarm: int(number) * (60 if unit == "h" else 1) for alarm, number, unit in rows}
