"""DataFrames as JSON lines, exactly: the one place that knows how a value is written.

One object a line, UTF-8, columns in the frame's order, a line feed after every one. Numbers are
written with the digits they have and never pass through a float; what JSON has no number for (NaN,
Infinity) is a string. Missing values are null.

A line is joined from pieces: the names, which are the same in every line, and between them the
values' literals, which are made column by column. Rows go in groups so small that the pieces of a
group stay in the processor's cache.
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
    from collections.abc import Callable, Iterable, Sequence

    type Array = np.ndarray[Any, Any]
    type Literals = Callable[[slice], list[bytes]]  # of some of a column's rows

_GROUP_ROWS = 500

# JSON allows these raw, but readers that split text into lines (str.splitlines) break there.
_LINE_BREAKS = {
    character.encode(): b"\\u%04x" % ord(character) for character in ("\x85", "\u2028", "\u2029")
}

# The parts of a timestamp, each of one width: "2022-11-03 T14:20: 52. 186 000 +00:00"
_TIMESTAMP = np.dtype(
    [("date", "S11"), ("time", "S7"), ("second", "S3"), ("ms", "S3"), ("us", "S3"), ("end", "S7")]
)
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
    line: list[bytes] = []
    columns: list[Literals] = []
    for name, values in frame.items():
        before = "," if line else "{"
        line += [f"{before}{encode_basestring(str(name))}:".encode(), b""]
        columns.append(_column(str(name), values))
    line.append(b"}\n")
    starts = range(0, len(frame), _GROUP_ROWS)
    return b"".join([_group(line, columns, slice(n, n + _GROUP_ROWS)) for n in starts])


def _group(line: list[bytes], columns: Sequence[Literals], rows: slice) -> bytes:
    literals = [column(rows) for column in columns]
    pieces = line * len(literals[0])
    for number, values in enumerate(literals):
        pieces[2 * number + 1 :: len(line)] = values
    text = b"".join(pieces)
    if not text.isascii():
        for character, escape in _LINE_BREAKS.items():
            text = text.replace(character, escape)
    return text


def _column(name: str, column: pd.Series[Any]) -> Literals:
    if column.dtype.kind == "M" and not column.hasnans:
        return _timestamps(column)
    if column.dtype == np.int64:
        return _integers(column.to_numpy())
    if column.dtype == object:
        values = column.tolist()
    else:
        values = column.astype(object).where(column.notna(), None).tolist()
    return lambda rows: _objects(name, values[rows])


def _timestamps(column: pd.Series[Any]) -> Literals:
    microseconds = column.to_numpy(dtype="datetime64[us]").view(np.int64)
    end = b'+00:00"' if isinstance(column.dtype, pd.DatetimeTZDtype) else b'"'

    def literals(rows: slice) -> list[bytes]:
        parts = np.empty(len(microseconds[rows]), _TIMESTAMP)
        days, rest = np.divmod(microseconds[rows], 86_400_000_000)
        minutes, rest = np.divmod(rest, 60_000_000)
        seconds, rest = np.divmod(rest, 1_000_000)
        milliseconds, rest = np.divmod(rest, 1000)
        dates, which = np.unique(days, return_inverse=True)
        quoted = [f'"{date}'.encode() for date in dates.astype("datetime64[D]")]
        parts["date"] = np.array(quoted)[which]
        parts["time"] = _TIMES[minutes]
        parts["second"] = _SECONDS[seconds]
        parts["ms"] = _THOUSANDTHS[milliseconds]
        parts["us"] = _THOUSANDTHS[rest]
        parts["end"] = end
        texts: list[bytes] = parts.view(f"S{parts.itemsize}").tolist()
        return texts

    return literals


def _integers(integers: Array) -> Literals:
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    if high - low > len(integers) // 4:
        return lambda rows: _digits(integers[rows].tolist())
    known = np.array([b"%d" % integer for integer in range(low, high + 1)], dtype=object)
    return lambda rows: known[integers[rows] - low].tolist()


def _digits(integers: list[int]) -> list[bytes]:
    return (b"%d\n" * len(integers) % tuple(integers)).split(b"\n")[:-1]


def _objects(name: str, values: list[Any]) -> list[bytes]:
    kinds = set(map(type, values))
    if kinds == {str}:
        return _strings(values)
    if kinds == {Decimal}:
        return _decimals(values)
    try:
        return _lines([_LITERALS[type(value)](value) for value in values])
    except KeyError as unknown:
        raise TypeError(
            f"Column {name!r} holds a {unknown.args[0].__name__}, which has no exact JSON form."
        ) from None


def _lines(literals: Iterable[str]) -> list[bytes]:
    """Return each literal, of which none has a line feed in it, as bytes."""
    return "\n".join(literals).encode().split(b"\n")


def _strings(values: list[str]) -> list[bytes]:
    """Escape all in one go, if a character is free that needs no escape to mark where they end."""
    text = "\x7f".join(values)
    if text.count("\x7f") >= len(values):
        return _lines(map(encode_basestring, values))
    return encode_basestring(text).replace("\x7f", '"\n"').encode().split(b"\n")


def _decimals(values: list[Decimal]) -> list[bytes]:
    text = "\n".join(map(str, values))
    if any(letter in text for letter in "EIN"):  # an exponent, Infinity, NaN
        return _lines(map(_decimal, values))
    return text.encode().split(b"\n")


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
