r"""Exact JSON lines of a DataFrame; `shared.json_values` says how a value is written.

Each line is one object in UTF-8, its members in the order of the frame's columns, and ends in a
line feed:

    {"payment_id":1,"amount":1.50,"paid":null}\n

To be fast, most values are not written one by one. The lines of a group of rows are laid out as
records of one length, in which a text that is shorter than its field ends in zero bytes. JSON has
none, so they are deleted in the end. Texts of any length stand between such records. A group has so
few rows that they stay in the processor's cache, and that their texts take little memory.
"""

from __future__ import annotations

from io import BytesIO
from json.encoder import encode_basestring
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shared.json_values import to_json, to_json_each
from shared.lines import Lines

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    type Array = np.ndarray[Any, Any]
    # What some rows have in one place: the same text, short texts, or texts of any length.
    type Field = bytes | Array | list[bytes]
    type Fields = Callable[[slice], Sequence[Field]]  # of some of a column's rows

_MOST_ZEROS = 32  # in a field: to delete one takes as long as to copy some fields
_FIRST_ROWS, _GROWTH, _GROUP_ROWS, _GROUP_BYTES = 10, 8, 4_000, 1_000_000
_FEW_VALUES = 500  # of a group: if its rows are so few, its values may be long

# JSON allows these unescaped, but readers that split text into lines (str.splitlines) split there.
_LINE_BREAKS = {
    character.encode(): b"\\u%04x" % ord(character) for character in ("\x85", "\u2028", "\u2029")
}

# numpy copies four characters at a time fastest, as one number. A number is its digits in fours:
# the first of them `7`, those behind it `0007`, which come 10,000 places later. Behind its date, a
# timestamp is `T14:` `20:5` `2.18` `6000`.
_PLACES = np.array([1000, 100, 10, 1])
_PADDED = (np.arange(10_000)[:, None] // _PLACES % 10 + ord("0")).astype("u1").view("<u4")[:, 0]
_ZEROS = (np.arange(10_000)[:, None] < _PLACES[:-1]).sum(axis=1, dtype="u4")
_FOURS = np.concatenate([_PADDED >> 8 * _ZEROS, _PADDED])
_NULL = np.frombuffer(b"null", "<u4")[0]
_HOURS = np.array([b"T%02d:" % hour for hour in range(24)]).view("<u4")
_MINUTES = np.array([b"%02d:%d" % divmod(tens, 6) for tens in range(360)]).view("<u4")
_SECONDS = np.array([b"%d.%02d" % divmod(hundredth, 100) for hundredth in range(1000)]).view("<u4")


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
    columns: list[Fields] = []
    for name, values in frame.items():
        start = f"{',' if columns else '{'}{encode_basestring(str(name))}:"
        columns.append(_column(start, values))
    lines, done, rows = BytesIO(), 0, _FIRST_ROWS
    while done < len(frame):
        lines.write(_group(columns, slice(done, min(done + rows, len(frame)))))
        done += rows
        # Not many more than before: longer ones may follow.
        rows = max(1, min(_GROWTH * rows, _GROUP_ROWS, _GROUP_BYTES * done // lines.tell()))
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


def _group(columns: Sequence[Fields], rows: slice) -> bytes:
    count = rows.stop - rows.start
    pieces: list[Array | list[bytes]] = []
    short: list[bytes | Array] = []
    for field in (field for column in columns for field in column(rows)):
        if isinstance(field, list):
            pieces += [_records(short, count), field] if short else [field]
            short = []
        else:
            short.append(field)
    pieces.append(_records([*short, b"}\n"], count))
    text = _joined(pieces).replace(b"\0", b"")
    for character, escape in _LINE_BREAKS.items():
        if all(byte in text for byte in character):  # to look for one byte takes next to no time
            text = text.replace(character, escape)
    return text


def _records(fields: Sequence[bytes | Array], count: int) -> Array:
    """Return texts that are made of a text of each field."""
    types = [f"S{len(field)}" if isinstance(field, bytes) else field.dtype for field in fields]
    records = np.empty(count, [(f"f{number}", each) for number, each in enumerate(types)])
    for number, field in enumerate(fields):
        records[f"f{number}"] = field
    return records.view(f"S{records.itemsize}")


def _joined(pieces: Sequence[Array | list[bytes]]) -> bytes:
    """Return the texts of all rows, of which each row has one of each piece."""
    if len(pieces) == 1:
        return bytes(np.asarray(pieces[0]))
    width = len(pieces)
    texts = [b""] * (width * len(pieces[0]))
    for number, piece in enumerate(pieces):
        texts[number::width] = piece if isinstance(piece, list) else piece.tolist()
    return b"".join(texts)


def _column(start: str, column: pd.Series[Any]) -> Fields:
    kind = column.dtype
    if kind.kind == "M":
        return _timestamps(start, column)
    if kind == np.int64:
        return _integers(start, column.to_numpy())
    if isinstance(kind, pd.Int64Dtype):
        return _integers(start, column.to_numpy(np.int64, na_value=0), column.isna().to_numpy())
    if kind.kind == "b":
        return _looked_up(start, column.to_numpy(np.int8, na_value=-1), [False, True])
    if isinstance(kind, pd.CategoricalDtype):
        return _looked_up(start, column.cat.codes.to_numpy(), column.cat.categories.tolist())
    values = column.tolist()
    if column.dtype != object and column.hasnans:
        values = column.astype(object).where(column.notna(), None).tolist()
    return lambda rows: [_objects(start, values[rows])]


def _looked_up(start: str, codes: Array, values: list[Any]) -> Fields:
    """Return the fields of values by their places in a list; -1 is null."""
    texts = _objects(start, [*values, None])
    sizes = [*map(len, texts)]
    if max(sizes) - min(sizes) <= _MOST_ZEROS:
        short = np.array(texts)
        return lambda rows: [short[codes[rows]]]
    long = np.array(texts, object)
    return lambda rows: [long[codes[rows]].tolist()]


def _timestamps(start: str, column: pd.Series[Any]) -> Fields:
    moments = column.to_numpy(dtype="datetime64[us]")
    nulls = np.isnat(moments)
    rest, last_digits = _divided(np.where(nulls, 0, moments.view(np.int64)), 10_000)
    rest, hundredths = _divided(rest, 1000)
    rest, tens_of_seconds = _divided(rest, 360)
    days, hours = _divided(rest, 24)
    dates, which = _distinct(days)
    quoted = [f'{start}"{date}'.encode() for date in dates.astype("datetime64[D]")]
    end = b'+00:00"' if isinstance(column.dtype, pd.DatetimeTZDtype) else b'"'
    clock = [
        _HOURS[hours],
        _MINUTES[tens_of_seconds],
        _SECONDS[hundredths],
        _PADDED[last_digits],
    ]
    if not nulls.any():
        texts = np.array(quoted)
        return lambda rows: [texts[which[rows]], *(word[rows] for word in clock), end]
    texts = np.array([*quoted, f"{start}null".encode()])
    which = np.where(nulls, -1, which)
    for word in clock:
        word[nulls] = 0
    ends = np.where(nulls, b"", end)
    return lambda rows: [texts[which[rows]], *(word[rows] for word in clock), ends[rows]]


def _distinct(integers: Array) -> tuple[Array, Array]:
    """Return integers of which each occurs, and where in them: few are found without sorting."""
    low, high = int(integers.min(initial=0)), int(integers.max(initial=0))
    if high - low > len(integers) // 4:
        return np.unique(integers, return_inverse=True)
    return np.arange(low, high + 1), integers - low


def _integers(start: str, integers: Array, nulls: Array | None = None) -> Fields:
    rest = np.abs(integers).view(np.uint64)  # of the lowest int64, too, whose abs() is negative
    highest = int(rest.max(initial=0))
    if highest < 2**32:
        rest = rest.astype(np.uint32)
    words: list[Array] = []
    width = 0
    while highest or not words:
        left, four = _divided(rest, 10_000)
        word = _FOURS[four + (left > 0) * rest.dtype.type(10_000)]
        if words:
            word[rest == 0] = 0
        words.insert(0, word)
        rest, width = left, len(str(highest))
        highest //= 10_000
    if nulls is not None and nulls.any():
        words[-1][nulls], width = _NULL, len("null")
    # Of the first four, only as many as the highest number has: else they are zeros to delete.
    words[0] = np.ndarray(len(integers), f"S{width}", words[0], strides=4)
    if integers.min(initial=0) >= 0:
        return lambda rows: [start.encode(), *(word[rows] for word in words)]
    signs = np.array([start.encode(), f"{start}-".encode()])[(integers < 0).astype(np.int8)]
    return lambda rows: [signs[rows], *(word[rows] for word in words)]


def _divided(integers: Array, by: int) -> tuple[Array, Array]:
    """Return quotients and remainders, as np.divmod does, in a third of the time."""
    quotients = integers // by
    return quotients, integers - quotients * by


def _objects(start: str, values: list[Any]) -> list[bytes]:
    try:
        if len(values) < _FEW_VALUES:
            return [f"{start}{to_json(value)}".encode() for value in values]
        text = to_json_each(values)
    except KeyError as unknown:
        raise TypeError(
            f"Column {start[1:-1]} has a {unknown.args[0].__name__}, which has no exact JSON form."
        ) from None
    return f"{start}{text}".replace("\n", f"\n{start}").encode().split(b"\n")
