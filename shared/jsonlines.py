"""DataFrames as JSON lines, exactly: the one place that knows how a value is written.

One object a line, UTF-8, columns in the frame's order, a line feed after every one. Numbers are
written with the digits they have and never pass through a float; what JSON has no number for (NaN,
Infinity) is a string. Missing values are null.
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

# JSON allows these raw, but readers that split text into lines (str.splitlines) break there.
_LINE_BREAKS = str.maketrans({"\x85": "\\u0085", "\u2028": "\\u2028", "\u2029": "\\u2029"})


class Json(str):
    """Text that is JSON already, on one line, and is written as it stands."""

    __slots__ = ()


def to_json_lines(frame: pd.DataFrame) -> bytes:
    """Return the frame's rows as JSON lines.

    Raises:
        TypeError: a value of a type that has no exact form here; the message names the column.
    """
    fragments, columns = [], []
    for name in frame.columns:
        placeholder, values = _rendered(name, frame[name])
        fragments.append(f"{encode_basestring(str(name)).replace('%', '%%')}:{placeholder}")
        columns.append(values)
    template = "{" + ",".join(fragments) + "}\n"
    text = "".join([template % row for row in zip(*columns, strict=True)])
    # Most text is ASCII, which has none of them and says so at once.
    return (text if text.isascii() else text.translate(_LINE_BREAKS)).encode()


def _rendered(name: str, column: pd.Series[Any]) -> tuple[str, Sequence[Any]]:
    """Return what stands for a value in the template, and what is put there, row by row."""
    kind = column.dtype.kind
    if kind == "M":
        return _timestamps(column)
    if kind in "iub" and isinstance(column.dtype, np.dtype) and kind != "b":
        return "%s", column.to_numpy().tolist()
    if column.dtype == object:
        values = column.tolist()
    else:
        values = column.astype(object).where(column.notna(), None).tolist()
    try:
        return "%s", [_LITERALS[type(value)](value) for value in values]
    except KeyError as unknown:
        raise TypeError(
            f"Column {name!r} holds a {unknown.args[0].__name__}, which has no exact JSON form."
        ) from None


def _timestamps(column: pd.Series[Any]) -> tuple[str, Sequence[Any]]:
    zone = "+00:00" if isinstance(column.dtype, pd.DatetimeTZDtype) else ""
    moments = column.to_numpy(dtype="datetime64[us]")
    texts: list[str] = np.datetime_as_string(moments, unit="us").tolist()
    if not column.hasnans:
        return f'"%s{zone}"', texts
    return "%s", ["null" if text == "NaT" else f'"{text}{zone}"' for text in texts]


def _float(value: float) -> str:
    if math.isfinite(value):
        return repr(float(value))
    return '"NaN"' if math.isnan(value) else '"Infinity"' if value > 0 else '"-Infinity"'


def _decimal(value: Decimal) -> str:
    if value.is_finite():
        return f"{value:f}"  # str() would write 0.0000001 as 1E-7
    return f'"{value}"'


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
