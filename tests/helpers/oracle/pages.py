"""The documentation, as tests hold it: its pages, their code, and what they promise in numbers."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
_DOCS = sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))
PAGES = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md", *_DOCS)


def page(name: str) -> str:
    """Return the text of a page: `docs/operating.md`."""
    return (ROOT / name).read_text()


def section(text: str, title: str) -> str:
    """Return what stands below a heading, up to the next one of the same rank or a higher one."""
    rank, rest = re.findall(rf"^(#+) {re.escape(title)}\n(.*)", text, re.MULTILINE | re.DOTALL)[0]
    return re.split(rf"^#{{1,{len(rank)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def blocks(text: str, language: str) -> list[str]:
    """Return the blocks of code in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def headings(text: str) -> list[str]:
    """Return the headings, without those lines of code that look like one."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.findall(r"^#+ (.+)$", prose, re.MULTILINE)


def anchors(text: str) -> set[str]:
    """Return what a link may name behind its `#`, as GitHub makes it from the headings."""
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings(text)}


def first_cells(text: str) -> list[str]:
    """Return the code in the first cells of the tables in a text."""
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row.split("|")[1])]


def minutes_to_fire() -> dict[str, int]:
    """Return how many minutes each alarm may take, by its name."""
    text = section(page("docs/operating.md"), "Alarms")
    rows = re.findall(r"^\| `([\w-]+)` \|.*\| (\d+) (min|h) \|$", text, re.MULTILINE)
    return {alarm: int(number) * (60 if unit == "h" else 1) for alarm, number, unit in rows}
