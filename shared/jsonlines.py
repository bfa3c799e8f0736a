r"""Exact JSON lines of a DataFrame; no other module knows how a value is written.

Each line is one object in UTF-8, its members in the order of the frame's columns, and ends in a
line feed. Numbers keep all of their digits and never pass through a float. NaN and Infinity, which
JSON lacks, become strings; missing values become null:

    {"payment_id":1,"amount":1.50,"paid":null}\n

To be fast, members, `,"name":value`, are made column by column and then joined into lines, in
groups of rows so small that their members stay in the processor's cache, if the rows are short, and
that their texts take little memory, if they are long.
"""

from __future__ import annotations

import math
from datetime import date, datetime
from decimal import Decimal
from io import BytesIO
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shared.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    type Array = np.ndarray[Any, Any]
    type Members = Callable[[slice], list[bytes]]  # of some of a column's rows

_LONG_TEXT = 100_000  # of which it pays to look whether it needs escapes
_FIRST_ROWS, _GROUP_ROWS, _GROUP_BYTES = 10, 500, 1_000_000

# JSON allows these unescaped, but readers that split text into lines (str.splitlines) split there.
_LINE_BREAKS = {
    character.encode(): b"\\u%04x" % ord(character) for character in ("\x85", "\u2028", "\u2029")
}

# numpy copies four characters at a time fastest. So behind its date, a timestamp is joined from
# `T14:` `20:5` `2.18` `6000`, and its end.
_PLACES = np.array([1000, 100, 10, 1])
_FOUR_DIGITS = (np.arange(10_000)[:, None] // _PLACES % 10 + ord("0")).astype("u1").view("u4")[:, 0]
_HOURS = np.array([b"T%02d:" % hour for hour in range(24)]).view("u4")
_MINUTES = np.array([b"%02d:%d" % divmod(tens, 6) for tens in range(360)]).view("u4")
_SECONDS = np.array([b"%d.%02d" % divmod(hundredth, 100) for hundredth in range(1000)]).view("u4")


class Json(str):
    """Text that is JSON already, without line breaks, and is written unchanged."""

    __slots__ = ()


def render(frame: pd.DataFrame) -> Lines:
    """Return the frame's rows as JSON lines, with their number.

    Raises:
        TypeError: see `to_json_lines`.
    """
    return Lines(len(frame), to_json_lines(frame))


def to_json_lines(frame: pd.DataFrame) -> bytes:
    r"""Return the frame's rows as JSON lines.

    >>> to_json_lines(pd.DataFrame({"id": [1, 2], "note": ["a", None]}))
    b'{"id":1,"note":"a"}\n{"id":2,"note":null}\n'

    Raises:
        TypeError: a value is of a type that has no exact form here; the message names the column.
    """
    columns: list[Members] = []
    for name, values in frame.items():
        start = f"{',' if columns else '{'}{encode_basestring(str(name))}:"
        columns.append(_column(start, values))
    lines, done, rows = BytesIO(), 0, _FIRST_ROWS
    while done < len(frame):
        lines.write(_group(columns, slice(done, done + rows)))
        done += rows
        rows = max(1, min(_GROUP_ROWS, _GROUP_BYTES * done // lines.tell()))
    return lines.getvalue()


def to_json_texts(column: pd.Series[Any]) -> list[bytes]:
    """Return the JSON text of each value of a column, as it is written in a line.

    >>> to_json_texts(pd.Series(["a", None]))
    [b'"a"', b'null']

    Raises:
        TypeError: a value is of a type that has no exact form here.
    """
    lines = to_json_lines(column.rename("v").to_frame()).split(b"\n")[:-1]
    return [line[len('{"v":') : -1] for line in lines]


def to_json(value: Any) -> str:
    """Return a value as it is written in a line.

    >>> to_json(Decimal("1.50"))
    '1.50'

    Raises:
        KeyError: the value is of a type that has no exact form here.
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
    distinct = _repeated_texts(values)
    if not distinct:
        return lambda rows: _objects(start, values[rows])
    known = dict(zip(distinct, _objects(start, distinct), strict=True))
    return lambda rows: list(map(known.__getitem__, values[rows]))


def _repeated_texts(values: list[Any]) -> list[str | None]:
    """Return the distinct values, if all are text or missing and most are repeated; else none."""
    some = values[:_GROUP_ROWS]
    if len(some) < _GROUP_ROWS or not set(map(type, values)) <= {str, type(None)}:
        return []
    if len(set(some)) > len(some) // 4:
        return []
    distinct = set(values)
    return list(distinct) if len(distinct) <= len(values) // 4 else []


def _timestamps(start: str, column: pd.Series[Any]) -> Members:
    microseconds = column.to_numpy(dtype="datetime64[us]").view(np.int64)
    rest, last_digits = np.divmod(microseconds, 10_000)
    rest, hundredths = np.divmod(rest, 1000)
    rest, tens_of_seconds = np.divmod(rest, 360)
    days, hours = np.divmod(rest, 24)
    dates, which = np.unique(days, return_inverse=True)
    quoted = np.array([f'{start}"{date}'.encode() for date in dates.astype("datetime64[D]")])
    end = b'+00:00"' if isinstance(column.dtype, pd.DatetimeTZDtype) else b'"'

    def members(rows: slice) -> list[bytes]:
        clock = [
            _HOURS[hours[rows]],
            _MINUTES[tens_of_seconds[rows]],
            _SECONDS[hundredths[rows]],
            _FOUR_DIGITS[last_digits[rows]],
        ]
        return _packed(quoted[which[rows]], clock, end)

    return members


def _integers(start: bytes, integers: Array) -> Members:
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    if high - low > len(integers) // 4:
        return lambda rows: _numbers(start, integers[rows])
    known = np.array([b"%b%d" % (start, integer) for integer in range(low, high + 1)], object)
    return lambda rows: known[integers[rows] - low].tolist()


def _numbers(start: bytes, integers: Array) -> list[bytes]:
    least, width = int(integers.min()), len(b"%d" % integers.max())
    if least < 10 ** (width - 1):  # they differ in width
        one = start.replace(b"%", b"%%") + b"%d\n"
        return (one * len(integers) % tuple(integers.tolist())).split(b"\n")[:-1]
    fours: list[Array] = []
    for _ in range((width - 1) // 4):
        integers, four = np.divmod(integers, 10_000)
        fours.insert(0, _FOUR_DIGITS[four])
    leading, which = np.unique(integers, return_inverse=True)
    starts = np.array([b"%b%d" % (start, number) for number in leading.tolist()])
    return _packed(starts[which], fours)


def _packed(starts: Array, fours: Sequence[Array], end: bytes = b"") -> list[bytes]:
    """Join texts of equal width from their starts, what follows in fours, and the common end."""
    layout = [(f"f{number}", "u4") for number in range(len(fours))]
    packed = np.empty(len(starts), [("start", starts.dtype), *layout, ("end", f"S{len(end)}")])
    packed["start"] = starts
    for (name, _), four in zip(layout, fours, strict=True):
        packed[name] = four
    packed["end"] = end
    texts: list[bytes] = packed.view(f"S{packed.itemsize}").tolist()
    return texts


def _objects(start: str, values: list[Any]) -> list[bytes]:
    try:
        text = _literals(values)
    except KeyError as unknown:
        raise TypeError(
            f"Column {start[1:-1]} has a {unknown.args[0].__name__}, which has no exact JSON form."
        ) from None
    return f"{start}{text}".replace("\n", f"\n{start}").encode().split(b"\n")


def _literals(values: list[Any]) -> str:
    """Return the values as JSON, one per line: JSON escapes line feeds within a value."""
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
    if len(text) > _LONG_TEXT and not _has_escapes(text):
        return f'"{text.replace("\x7f", '"\n"')}"'
    return encode_basestring(text).replace("\x7f", '"\n"')


def _has_escapes(text: str) -> bool:
    octets = np.frombuffer(text.encode(), np.uint8)
    return bool(((octets < 0x20) | (octets == ord('"')) | (octets == ord("\\"))).any())


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
