"""Which values of a column, in the form they land in, break a JSON Schema (draft 2020-12).

A column is first judged by a sample of its values, chosen so that one of them breaks the schema if
any value does: the extremes of a number that has bounds, each text once. Only a column that breaks
it is looked at row by row. The verdict is over the landed JSON text, so what is right here is right
for whoever reads the lines with a validator.

Any validator may use these schemas, so nothing in them has two meanings: bounds are whole numbers
(0.01 is not the same number everywhere), and `format`, which most validators ignore, is refused
like every other keyword that is not known here. Pandas is imported only where there are rows.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    import pandas as pd

    type Schema = Mapping[str, Any]

POSTGRESQL_TYPE = "x-postgresql-type"

_TIMESTAMP = (
    "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][.][0-9]{6}"
)
# How timestamps land; all of the years 0 to 9999 do.
TIMESTAMP = {"minLength": 26, "maxLength": 26, "pattern": f"{_TIMESTAMP}$"}
TIMESTAMP_UTC = {"minLength": 32, "maxLength": 32, "pattern": f"{_TIMESTAMP}[+]00:00$"}

_ANNOTATIONS = {"description", "$comment", POSTGRESQL_TYPE}
_TYPES: Mapping[str, Callable[[Any], bool]] = {
    "null": lambda value: value is None,
    "boolean": lambda value: isinstance(value, bool),
    "number": lambda value: isinstance(value, Decimal),
    "integer": lambda value: isinstance(value, Decimal) and value == value.to_integral_value(),
    "string": lambda value: isinstance(value, str),
    "array": lambda value: isinstance(value, list),
    "object": lambda value: isinstance(value, dict),
}


def nullable(schema: Schema) -> bool:
    """Tell whether a column may hold null."""
    return "null" in _types(schema)


def rules(schema: Schema) -> dict[str, Any]:
    """Return the part of a schema that values can break."""
    return {keyword: argument for keyword, argument in schema.items() if keyword in _KEYWORDS}


def misuse(schema: Schema) -> Iterator[str]:
    """Yield what in a schema can't be checked here as every validator would."""
    unknown = schema.keys() - _KEYWORDS.keys() - _ANNOTATIONS
    yield from (f"{keyword!r} is not known here" for keyword in sorted(unknown))
    bounds = schema.keys() & _BOUNDS.keys()
    yield from (f"{name!r} is no whole number" for name in bounds if type(schema[name]) is not int)
    yield from (f"there is no type {name!r}" for name in _types(schema) if name not in _TYPES)
    if any(isinstance(member, float | list | dict) for member in schema.get("enum", ())):
        yield "'enum' holds something else than texts, whole numbers, true, false and null"
    re.compile(schema.get("pattern", ""))
    yield from misuse(schema["not"]) if "not" in schema else ()


def faults(column: pd.Series[Any], schema: Schema) -> list[str]:
    """Return what is wrong with each value, in words without the value, "" where nothing is.

    The list is empty if all values are as they should be.
    """
    if not len(column):
        return []
    sample = _sample(column, schema)
    if sample is not None and not any(_fault(value, schema) for value in sample):
        return []
    by_row = _faults_by_row(column, schema)
    return by_row if any(by_row) else []


def _sample(column: pd.Series[Any], schema: Schema) -> Iterable[Any] | None:
    """Return values, as they land, of which one breaks the schema if one of the column's does.

    None where only all rows will do.
    """
    keywords = rules(schema).keys() - {"type"}
    if column.dtype == object:
        return _sample_of_objects(column.tolist(), keywords, _types(schema))
    if schema.items() >= TIMESTAMP.items() or schema.items() >= TIMESTAMP_UTC.items():
        keywords -= TIMESTAMP.keys()  # what two moments have, all between do
    if column.dtype.kind in "iuM" and keywords <= _BOUNDS.keys():
        return _extremes(column)
    return _landed(column.drop_duplicates())


def _extremes(column: pd.Series[Any]) -> list[Any]:
    from shared.jsonlines import to_json

    if column.hasnans:
        nulls = column.isna()
        return [None, *(_extremes(column[~nulls]) if not nulls.all() else ())]
    if column.dtype.kind == "M":
        ends = column.iat[int(column.argmin())], column.iat[int(column.argmax())]
        return [json.loads(to_json(end)) for end in ends]
    numbers = column.to_numpy()
    return [Decimal(int(numbers.min())), Decimal(int(numbers.max()))]


def _sample_of_objects(
    values: list[Any], keywords: set[str], types: list[str]
) -> Iterable[Any] | None:
    found = set(map(type, values))
    nulls = [None] * (type(None) in found)
    found.discard(type(None))
    if found <= {str}:
        return set(values) if keywords else [*[""] * len(found), *nulls]
    if found == {Decimal} and keywords <= _BOUNDS.keys() and "integer" not in types:
        with suppress(InvalidOperation, TypeError):  # NaN is neither below nor above anything
            numbers = set(values) - {None}
            extremes = [min(numbers), max(numbers)]
            if all(map(Decimal.is_finite, extremes)):  # NaN and Infinity land as texts
                return [*extremes, *nulls]
    return None


def _faults_by_row(column: pd.Series[Any], schema: Schema) -> list[str]:
    lines = _lines(column)
    by_line = {line: _fault(_value(line), schema) for line in set(lines)}
    return [by_line[line] for line in lines]


def _landed(column: pd.Series[Any]) -> list[Any]:
    return [_value(line) for line in _lines(column)]


def _lines(column: pd.Series[Any]) -> list[bytes]:
    """Return the JSON text of each value."""
    from shared.jsonlines import to_json_lines

    lines = to_json_lines(column.rename("v").to_frame()).split(b"\n")[:-1]
    return [line[len('{"v":') : -1] for line in lines]


def _value(text: bytes) -> Any:
    """Return the value of a JSON text, numbers as Decimal, of arrays and objects no more than that.

    No keyword looks into them, and a parser may not get out of a deep one again.
    """
    first = text.lstrip()[:1]
    if first in {b"[", b"{"}:
        return [] if first == b"[" else {}
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)


def _fault(value: Any, schema: Schema) -> str:
    broken = [word for word, rule in rules(schema).items() if not _KEYWORDS[word](rule, value)]
    if not broken:
        return ""
    kind = next(name for name, fits in _TYPES.items() if fits(value))
    return kind if "type" in broken else f"{kind} against {', '.join(broken)}"


def _types(schema: Schema) -> list[str]:
    return _listed(schema.get("type", list(_TYPES)))


def _listed(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _is_member(members: list[Any], value: Any) -> bool:
    """Tell whether a value is one of a list's; in JSON 1 is not true."""
    return any(
        member == value and isinstance(member, bool) == isinstance(value, bool)
        for member in members
    )


def _bound(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda bound, value: not isinstance(value, Decimal) or holds(value, bound)


def _text(holds: Callable[[Any, str], bool]) -> Callable[[Any, Any], bool]:
    return lambda argument, value: not isinstance(value, str) or holds(argument, value)


# Each takes the keyword's argument and a value. A keyword about numbers lets every text pass.
_BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": _bound(lambda value, bound: value >= bound),
    "maximum": _bound(lambda value, bound: value <= bound),
    "exclusiveMinimum": _bound(lambda value, bound: value > bound),
    "exclusiveMaximum": _bound(lambda value, bound: value < bound),
}
_KEYWORDS: Mapping[str, Callable[[Any, Any], bool]] = {
    **_BOUNDS,
    "type": lambda types, value: any(_TYPES[name](value) for name in _listed(types)),
    "enum": _is_member,
    "minLength": _text(lambda least, value: len(value) >= least),
    "maxLength": _text(lambda most, value: len(value) <= most),
    "pattern": _text(lambda pattern, value: re.search(pattern, value) is not None),
    "not": lambda schema, value: bool(_fault(value, schema)),
}
