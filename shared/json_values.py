"""Exact JSON of single values; `shared.jsonlines` writes many at once, and the same.

Numbers keep all of their digits and never pass through a float. NaN and Infinity, which JSON lacks,
become strings; missing values become null.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable


class Json(str):
    """Text that is JSON already, without line breaks, and is written unchanged."""

    __slots__ = ()


def to_json(value: Any) -> str:
    """Return a value as it is written in a line.

    >>> to_json(Decimal("1.50"))
    '1.50'

    Raises:
        KeyError: the value is of a type that has no exact form here.
    """
    return _LITERALS[type(value)](value)


def to_json_each(values: list[Any]) -> str:
    """Return values as they are written, one per line: JSON escapes line feeds within a value.

    It is faster than `to_json` of each if they are many and short.

    Raises:
        KeyError: a value is of a type that has no exact form here.
    """
    kinds = set(map(type, values))
    if kinds == {str}:
        return _strings(values)
    if kinds == {Decimal}:
        return _decimals(values)
    return "\n".join(map(to_json, values))


def _strings(values: list[str]) -> str:
    """Escape all strings in one call, separated by DEL, which needs no escape, if none has one."""
    text = "\x7f".join(values)
    if text.count("\x7f") >= len(values):
        return "\n".join(map(encode_basestring, values))
    return encode_basestring(text).replace("\x7f", '"\n"')


def _decimals(values: list[Decimal]) -> str:
    text = "\n".join(map(str, values))
    if any(letter in text for letter in "EIN"):  # an exponent, Infinity, NaN
        return "\n".join(map(_decimal, values))
    return text


def _decimal(value: Decimal) -> str:
    return f"{value:f}" if value.is_finite() else f'"{value}"'


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _datetime(value: datetime) -> str:
    return f'"{value.isoformat(timespec="microseconds")}"'


_LITERALS: dict[type, Callable[[Any], str]] = {
    str: encode_basestring,
    Json: str,
    int: str,
    bool: lambda value: "true" if value else "false",
    float: _float,
    Decimal: _decimal,
    datetime: _datetime,
    pd.Timestamp: _datetime,
    date: lambda value: f'"{value.isoformat()}"',
    type(None): lambda _: "null",
    type(pd.NA): lambda _: "null",
    type(pd.NaT): lambda _: "null",
}
