"""Lines that have landed, as a DataFrame in the types that their contract says.

This is the way back from `shared.jsonlines`: columns have the types in which `get_table_data`
returns them (`shared.postgres.columns` lists them), and `to_json_lines` makes the same lines of the
frame again. Numbers never pass through a float, but those of float columns.

Lines may differ from the contract, because rows that break it land all the same:

- A column that a line lacks was added later: it is null there.
- A column that `x-land` drops is left out, also where lines from before have it. One that it hashes
  is text; lines from before have values in it that do not fit.
- A column with a value that its type can't hold has objects, as the lines have them.
- A column that the contract does not know comes last, with objects.

As the lines have them are `int`, `Decimal`, `str`, `bool`, `list`, `dict` and None.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shared.contracts import schema
from shared.contracts.contract import landed
from shared.json_reader import parse_line, split_members
from shared.json_values import Json

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import timezone

    from shared.contracts.contract import Contract
    from shared.contracts.schema import Schema

    type Row = dict[str, Any]
    type Decode = Callable[[list[Any]], Any]

_MISSING = {type(pd.NA), type(pd.NaT)}
_SETTLED = {"Int64": np.int64, "boolean": np.bool}  # without a null
_NOT_FINITE = {"NaN", "Infinity", "-Infinity"}
_LENGTH = 26  # of a timestamp without its time zone
_FORMS = {
    None: re.compile(str(schema.TIMESTAMP["pattern"])),
    UTC: re.compile(str(schema.TIMESTAMP_UTC["pattern"])),
}


class NotARowError(ValueError):
    """A line is not the JSON object of a row.

    Attributes:
        line: its number, from 1.
    """

    def __init__(self, line: int) -> None:
        """Name the line, and nothing of what is in it."""
        super().__init__(f"line {line}")
        self.line = line


def parse_rows(lines: Sequence[bytes], contract: Contract) -> list[Row]:
    """Return what the lines hold, without loss, for `to_frame`.

    Args:
        lines: each is one JSON object.
        contract: says which columns hold JSON documents, whose text is kept as it is.

    Raises:
        NotARowError: one of the lines is something else.
    """
    columns = landed(contract)
    documents = [name for name in columns if _decoder(columns[name]) is _documents]
    if not documents:
        rows = _parse_at_once(lines)
        if rows is not None:
            return rows
    return [_parse(line, number, documents) for number, line in enumerate(lines, 1)]


def to_frame(rows: Sequence[Row], contract: Contract) -> pd.DataFrame:
    """Return rows as a DataFrame, in their order; see above for its columns.

    Args:
        rows: as `parse_rows` returns them.
        contract: the schema of each column, as the source has it, with its `x-land`.
    """
    expected = landed(contract)
    shapes = {tuple(row): None for row in rows}
    others = [name for shape in shapes for name in shape if name not in contract]
    names = dict.fromkeys([*expected, *others])
    columns = {name: _decode([row.get(name) for row in rows], expected.get(name)) for name in names}
    return pd.DataFrame(columns, columns=list(names), copy=False)


def join_frames(
    frames: Sequence[pd.DataFrame], places: np.ndarray[Any, Any], contract: Contract
) -> pd.DataFrame:
    """Return some rows of frames that `to_frame` has made, as if it had made one of all of them.

    Args:
        frames: at least one.
        places: where these rows are, the rows of all frames counted from 0.
        contract: as it was for `to_frame`.
    """
    columns, expected = {}, landed(contract)
    for name in dict.fromkeys(str(name) for frame in frames for name in frame):
        parts = [
            frame[name] if name in frame else _objects([None] * len(frame)) for frame in frames
        ]
        taken = pd.concat(parts, ignore_index=True).take(places)
        columns[name] = _settle(taken.reset_index(drop=True), expected.get(name))
    return pd.DataFrame(columns, copy=False)


def _parse_at_once(lines: Sequence[bytes]) -> list[Row] | None:
    """Return the rows, None if there may be one that is none, or is beyond the parser's limits."""
    text = b"[%b]" % b",".join(lines)
    try:
        rows: list[Row] = json.loads(text, parse_float=Decimal, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return None
    return rows if len(rows) == len(lines) and set(map(type, rows)) <= {dict} else None


def _parse(line: bytes, number: int, documents: Sequence[str]) -> Row:
    try:
        row = parse_line(line, Decimal)
    except ValueError:
        raise NotARowError(number) from None  # its message may quote the line
    if type(row) is not dict or float in map(type, row.values()):  # NaN without quotes is no JSON
        raise NotARowError(number)
    texts = split_members(line) if documents else {}
    return row | {name: Json(texts[name]) for name in documents if row.get(name) is not None}


def _refuse(constant: str) -> None:
    raise ValueError(constant)


def _settle(column: pd.Series[Any], expected: Schema | None) -> Any:
    """Return a column in the type of its values, now that some rows are left out."""
    if column.dtype == object:
        return _decode(column.tolist(), expected)
    settled = _SETTLED.get(str(column.dtype))
    return column.to_numpy(settled) if settled and not column.hasnans else column


def _decode(values: list[Any], expected: Schema | None) -> Any:
    """Return a column in its type if all values fit, else of objects."""
    if _MISSING & set(map(type, values)):
        values = [None if type(value) in _MISSING else value for value in values]
    decoded = _decoder(expected)(values) if expected else None
    return _objects(values) if decoded is None else decoded


def _decoder(expected: Schema) -> Decode:
    """Return what makes a column of its values; it returns None if one does not fit."""
    declared, types = schema.base_type(expected), schema.value_types(expected)
    if declared.endswith("[]") or types & {"array", "object"}:
        return _documents
    if declared in _BY_NAME:
        return _BY_NAME[declared]
    # A domain, or another type of a user: what is in the lines tells what it is made of.
    if expected.items() >= schema.TIMESTAMP.items():
        return _timestamps
    if expected.items() >= schema.TIMESTAMP_UTC.items():
        return _instants
    return _BY_JSON.get(frozenset(types), _objects)


def _objects(values: list[Any]) -> pd.Series[Any]:
    return pd.Series(values, dtype=object)  # explicit, or pandas infers a type from the values


def _documents(values: list[Any]) -> Any:
    return _objects(values)


def _integers(values: list[Any]) -> Any:
    if not set(map(type, values)) <= {int, type(None)}:
        return None
    nulls = np.array([value is None for value in values], bool)
    try:
        numbers = np.array([value or 0 for value in values], np.int64)
    except OverflowError:
        return None
    return pd.arrays.IntegerArray(numbers, nulls) if nulls.any() else numbers


def _booleans(values: list[Any]) -> Any:
    if not set(map(type, values)) <= {bool, type(None)}:
        return None
    nulls = np.array([value is None for value in values], bool)
    flags = np.array([bool(value) for value in values], bool)
    return pd.arrays.BooleanArray(flags, nulls) if nulls.any() else flags


def _decimals(values: list[Any]) -> Any:
    if set(map(type, values)) <= {Decimal, type(None)}:
        return _objects(values)
    if not all(map(_is_number, values)):
        return None
    return _objects([None if value is None else Decimal(value) for value in values])


def _floats(values: list[Any]) -> Any:
    if not all(map(_is_number, values)):
        return None
    numbers = [None if value is None else float(value) for value in values]
    if any(number is None or number != number for number in numbers):
        return _objects(numbers)  # float64 confuses NULL and NaN
    return np.array(numbers, np.float64)


def _is_number(value: Any) -> bool:
    kind = type(value)
    return kind in {int, Decimal, float, type(None)} or (kind is str and value in _NOT_FINITE)


def _timestamps(values: list[Any]) -> Any:
    return _moments(values, None)


def _instants(values: list[Any]) -> Any:
    return _moments(values, UTC)


def _moments(values: list[Any], zone: timezone | None) -> Any:
    """Return datetime64; objects if there is a value that it can't hold, such as infinity."""
    form = _FORMS[zone]
    with suppress(TypeError, ValueError):  # not a text, or no day of the calendar
        if all(value is None or form.fullmatch(value) for value in values):
            return _in_zone([value and value[:_LENGTH] for value in values], zone)
    moments = [_moment(value, form) for value in values]
    if set(map(type, moments)) <= {datetime, type(None)}:
        return _in_zone([value and value.replace(tzinfo=None) for value in moments], zone)
    return _objects(moments)


def _in_zone(moments: list[Any], zone: timezone | None) -> Any:
    array = np.array(moments, "datetime64[us]")
    return pd.Series(array).dt.tz_localize(zone) if zone else array


def _moment(value: Any, form: re.Pattern[str]) -> Any:
    if isinstance(value, pd.Timestamp):
        return value.to_pydatetime()
    if isinstance(value, str) and form.fullmatch(value):
        with suppress(ValueError):  # no day of the calendar, such as 30 February
            return datetime.fromisoformat(value)
    return value


_BY_NAME: Mapping[str, Decode] = {
    **dict.fromkeys(("smallint", "integer", "bigint"), _integers),
    **dict.fromkeys(("real", "double precision"), _floats),
    "numeric": _decimals,
    "boolean": _booleans,
    "timestamp without time zone": _timestamps,
    "timestamp with time zone": _instants,
}
_BY_JSON: Mapping[frozenset[str], Decode] = {
    frozenset({"integer"}): _integers,
    frozenset({"number"}): _decimals,
    frozenset({"boolean"}): _booleans,
}
