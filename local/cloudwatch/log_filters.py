"""CloudWatch's metric filters: whether a log line matches, as AWS documents it."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import Any

_TERM = re.compile(r'\$\.(?P<field>\w+) *(?P<operator>=|!=) *"(?P<text>[^"\\]*)"')


def matches(pattern: str, line: str) -> bool:
    """Tell whether a log line matches a filter pattern.

    Only patterns for JSON are simulated that compare fields with texts, joined by &&; in a text *
    stands for any characters. A line that is not a JSON object never matches, and a missing field
    is neither equal nor unequal to a text.

    Raises:
        ValueError: the pattern is of another form.
    """
    inner = re.fullmatch(r"\{(.*)\}", pattern.strip())
    if not inner:
        raise ValueError(f"{pattern!r} is not a pattern for JSON")
    terms = [_TERM.fullmatch(term.strip()) for term in inner[1].split("&&")]
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return all([_holds(pattern, term, event) for term in terms])


def _holds(pattern: str, term: re.Match[str] | None, event: Any) -> bool:
    if term is None:
        raise ValueError(f"{pattern!r} is not simulated")
    if not isinstance(event, dict) or not isinstance(event.get(term["field"]), str):
        return False
    literal = re.sub(r"([\[?])", r"[\1]", term["text"])  # only the * is special
    return fnmatchcase(event[term["field"]], literal) == (term["operator"] == "=")
