"""CloudWatch's metric filters: whether a log line matches, as AWS documents it."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from typing import Any

_TERM = re.compile(
    r'\$\.(?P<field>\w+) *(?:(?P<operator>=|!=) *"(?P<text>[^"\\]*)"'
    r"|> *(?P<number>\d+)|(?P<missing>NOT EXISTS))"
)
_WORDS = re.compile(r'(?:\?"[^"\\]*" *)+')


def matches(pattern: str, line: str) -> bool:
    """Tell whether a log line matches a filter pattern.

    Two kinds of pattern are simulated. `?"a" ?"b"` matches a line with one of the texts. One for
    JSON has terms joined by &&: a field compared with a text, in which * stands for any characters,
    or with a number, or one that does NOT EXIST. A line that is not a JSON object never matches it,
    and a missing field is neither equal nor unequal to a text.

    Raises:
        ValueError: the pattern is of another form.
    """
    if _WORDS.fullmatch(pattern.strip()):
        return any(text in line for text in re.findall(r'"([^"]*)"', pattern))
    inner = re.fullmatch(r"\{(.*)\}", pattern.strip())
    if not inner:
        raise ValueError(f"{pattern!r} is not simulated")
    terms = [_TERM.fullmatch(term.strip(" ()")) for term in inner[1].split("&&")]
    try:
        event = json.loads(line)
    except ValueError:
        event = None
    return all([_holds(pattern, term, event) for term in terms])


def _holds(pattern: str, term: re.Match[str] | None, event: Any) -> bool:
    if term is None:
        raise ValueError(f"{pattern!r} is not simulated")
    if not isinstance(event, dict):
        return False
    value: Any = event.get(term["field"])
    if term["missing"]:
        return term["field"] not in event
    if term["number"]:
        return type(value) in {int, float} and value > int(term["number"])
    if not isinstance(value, str):
        return False
    literal = re.sub(r"([\[?])", r"[\1]", term["text"])  # only the * is special
    return fnmatchcase(value, literal) == (term["operator"] == "=")
