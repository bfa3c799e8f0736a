"""DataFrames as JSON lines, exactly: the one place that knows how a value is written.

One object a line, UTF-8, columns in the frame's order, a line feed after every one. Numbers are
written with the digits they have and never pass through a float; what JSON has no number for (NaN,
Infinity) is a string. Missing values are null.

A line is joined from its members, `,"name":value`, which are made column by column. Rows go in
groups so small that the members of a group stay in the processor's cache.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    type Array = np.ndarray[Any, Any]
    type Members = Callable[[slice], list[bytes]]  # of some of a column's rows

_GROUP_ROWS = 500

# JSON allows these raw, but readers that split text into lines (str.splitlines) break there.
_LINE_BREAKS = {
    character.encode(): b"\\u%04x" % ord(character) for character in ("\x85", "\u2028", "\u2029")
}

# The parts of a timestamp, each of one width: 2022-11-03 T14:20: 52. 186 000 +00:00"
_CLOCK = [("time", "S7"), ("second", "S3"), ("ms", "S3"), ("us", "S3"), ("end", "S7")]
_TIMES = np.array([b"T%02d:%02d:" % divmod(minute, 60) for minute in range(24 * 60)])
_SECONDS = np.array([b"%02d." % second for second in range(60)])
_THOUSANDTHS = np.array([b"%03d" % number for number in range(1000)])


class Json(str):
    """Text that is JSON already, on one line, and is written as it stands."""

    __slots__ = ()


def to_json_lines(frame: pd.DataFrame) -> bytes:
    """Return the frame's rows as JSON lines.

    Raises:
        TypeError: a value of a type that has no exact form here; the message names the column.
    """
    columns: list[Members] = []
    for name, values in frame.items():
        start = f"{',' if columns else '{'}{encode_basestring(str(name))}:"
        columns.append(_column(start, values))
    starts = range(0, len(frame), _GROUP_ROWS)
    return b"".join([_group(columns, slice(n, n + _GROUP_ROWS)) for n in starts])


def to_json(value: Any) -> str:
    """Return a value as it is written in a line.

    Raises:
        KeyError: it is of a type that has no exact form here.
    """
    return _LITERALS[type(value)](value)


def _group(columns: Sequence[Members], rows: slice) -> bytes:
    members = [column(rows) for column in columns]
    width = len(columns) + 1
    pieces = [b"}\n"] * (width * len(members[0]))
    for number, column in enumerate(members):
        pieces[number::width] = column
    text = b"".join(pieces)
    if not text.isascii():
        for character, escape in _LINE_BREAKS.items():
            text = text.replace(character, escape)
    return text


def _column(start: str, column: pd.Series[Any]) -> Members:
    if column.dtype.kind == "M" and not column.hasnans:
        return _timestamps(start, column)
    if column.dtype == np.int64:
        return _integers(start.encode(), column.to_numpy())
    values = column.tolist()
    if column.dtype != object and column.hasnans:
        values = column.astype(object).where(column.notna(), None).tolist()
    return lambda rows: _objects(start, values[rows])


def _timestamps(start: str, column: pd.Series[Any]) -> Members:
    microseconds = column.to_numpy(dtype="datetime64[us]").view(np.int64)
    end = b'+00:00"' if isinstance(column.dtype, pd.DatetimeTZDtype) else b'"'
    width = len(f'{start}"2022-11-03'.encode())
    layout = np.dtype([("date", f"S{width}"), *_CLOCK])

    def members(rows: slice) -> list[bytes]:
        parts = np.empty(len(microseconds[rows]), layout)
        days, rest = np.divmod(microseconds[rows], 86_400_000_000)
        minutes, rest = np.divmod(rest, 60_000_000)
        seconds, rest = np.divmod(rest, 1_000_000)
        milliseconds, rest = np.divmod(rest, 1000)
        dates, which = np.unique(days, return_inverse=True)
        quoted = [f'{start}"{date}'.encode() for date in dates.astype("datetime64[D]")]
        parts["date"] = np.array(quoted)[which]
        parts["time"] = _TIMES[minutes]
        parts["second"] = _SECONDS[seconds]
        parts["ms"] = _THOUSANDTHS[milliseconds]
        parts["us"] = _THOUSANDTHS[rest]
        parts["end"] = end
        texts: list[bytes] = parts.view(f"S{parts.itemsize}").tolist()
        return texts

    return members


def _integers(start: bytes, integers: Array) -> Members:
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    if high - low > len(integers) // 4:
        one = start.replace(b"%", b"%%") + b"%d\n"
        return lambda rows: _digits(one, integers[rows].tolist())
    known = np.array([b"%b%d" % (start, integer) for integer in range(low, high + 1)], object)
    return lambda rows: known[integers[rows] - low].tolist()


def _digits(one: bytes, integers: list[int]) -> list[bytes]:
    return (one * len(integers) % tuple(integers)).split(b"\n")[:-1]


def _objects(start: str, values: list[Any]) -> list[bytes]:
    try:
        text = _literals(values)
    except KeyError as unknown:
        raise TypeError(
            f"Column {start[1:-1]} has a {unknown.args[0].__name__}, which has no exact JSON form."
        ) from None
    return f"{start}{text}".replace("\n", f"\n{start}").encode().split(b"\n")


def _literals(values: list[Any]) -> str:
    """Return the literals of values, one a line; none has a line feed in it."""
    kinds = set(map(type, values))
    if kinds == {str}:
        return _strings(values)
    if kinds == {Decimal}:
        return _decimals(values)
    return "\n".join(map(to_json, values))


def _strings(values: list[str]) -> str:
    """Escape all in one go, if a character is free that needs no escape to mark where they end."""
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
