"""Reads a line that the service wrote, whatever values it holds.

Python's parser refuses integers of more than 4,300 digits, and documents that are nested a few
thousand times; PostgreSQL has both. What it refuses is read again, slowly and without limits.
"""

from __future__ import annotations

import json
import json.scanner
import sys
from decimal import Decimal
from threading import Lock
from typing import Any

_FRAMES = 2  # of Python, for each level of a document
_one_at_a_time = Lock()  # the limit of recursion is the process's


def parse_line(line: bytes) -> Any:
    """Return the value of a line: floats by `float`, integers of very many digits as Decimal.

    >>> parse_line(b'{"payment_id":1}')
    {'payment_id': 1}

    Raises:
        ValueError: the line is not JSON.
    """
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        return _parse_without_limits(line.decode())


def _parse_without_limits(text: str) -> Any:
    decoder = json.JSONDecoder(parse_int=_integer)
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
