"""Reads a line that the service wrote, whatever values it holds.

Python's parser refuses integers of more than 4,300 digits, and documents that are nested a few
thousand times; PostgreSQL has both. What it refuses is read again, slowly and without limits.
"""

from __future__ import annotations

import json
import json.scanner
import re
import sys
from decimal import Decimal
from threading import Lock
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_FRAMES = 2  # of Python, for each level of a document
_one_at_a_time = Lock()  # the limit of recursion is the process's
_TOKEN = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|[][{},:]')


def parse_line(line: bytes, parse_float: Callable[[str], Any] = float) -> Any:
    """Return the value of a line: integers of very many digits as Decimal.

    >>> parse_line(b'{"payment_id":1}')
    {'payment_id': 1}

    Args:
        line: JSON in UTF-8.
        parse_float: makes a number of one that has a point or an exponent.

    Raises:
        ValueError: the line is not JSON.
    """
    try:
        return json.loads(line, parse_float=parse_float)
    except (ValueError, RecursionError):
        return _parse_without_limits(line.decode(), parse_float)


def split_members(line: bytes) -> dict[str, str]:
    """Return the JSON text of each member of an object, exactly as it is in the line.

    >>> split_members(b'{"id":1,"document":{"a": 1.10}}')
    {'id': '1', 'document': '{"a": 1.10}'}

    Args:
        line: an object that `parse_line` can read.
    """
    text, depth, begin, name, members = line.decode(), 0, 0, None, dict[str, str]()
    for token in _TOKEN.finditer(text):
        sign = token[0]
        if depth == 1 and name is None and sign[0] == '"':
            name = json.loads(sign)
        elif depth == 1 and sign == ":":
            begin = token.end()
        elif depth == 1 and sign in {",", "}"} and name is not None:
            members[name], name = text[begin : token.start()], None
        depth += (sign in {"{", "["}) - (sign in {"}", "]"})
    return members


def _parse_without_limits(text: str, parse_float: Callable[[str], Any]) -> Any:
    decoder = json.JSONDecoder(parse_int=_integer, parse_float=parse_float)
    # The scanner in C is limited by the stack; that in Python by a number that can be raised.
    decoder.scan_once = json.scanner.py_make_scanner(decoder)  # type: ignore[attr-defined]
    levels = text.count("[") + text.count("{")
    with _one_at_a_time:
        before = sys.getrecursionlimit()
        sys.setrecursionlimit(before + _FRAMES * levels)
        try:
            return decoder.decode(text)
        finally:
            sys.setrecursionlimit(before)


def _integer(digits: str) -> int | Decimal:
    try:
        return int(digits)
    except ValueError:
        return Decimal(digits)
