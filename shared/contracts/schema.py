"""Checks JSON values against a JSON Schema (draft 2020-12). No I/O.

Every validator must come to the same verdict, so ambiguous keywords are refused: bounds must be
whole numbers (0.01 is not the same number everywhere), and `format`, which most validators ignore,
is not supported.

https://json-schema.org/draft/2020-12/json-schema-validation
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    type Schema = Mapping[str, Any]

POSTGRESQL_TYPE = "x-postgresql-type"
LAND = "x-land"  # how a column lands that must not land as it is: a member of LAND_FORMS
LAND_FORMS = ("drop", "hash")

_TIMESTAMP = (
    "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])"
    "T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][.][0-9]{6}"
)
# The form in which timestamps land. The pattern allows the years 0000 to 9999.
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
    return "null" in types(schema)


def rules(schema: Schema) -> dict[str, Any]:
    """Return the part of a schema that values can break."""
    return {keyword: argument for keyword, argument in schema.items() if keyword in _KEYWORDS}


def misuse(schema: Schema) -> Iterator[str]:
    """Yield the parts of a schema that are not supported, or that validators read differently.

    Raises:
        re.error: the pattern is not a regular expression.
    """
    unknown = schema.keys() - _KEYWORDS.keys() - _ANNOTATIONS
    yield from (f"{keyword!r} is not supported" for keyword in sorted(unknown))
    bounds = schema.keys() & BOUNDS.keys()
    yield from (
        f"{name!r} is not a whole number" for name in bounds if type(schema[name]) is not int
    )
    yield from (f"there is no type {name!r}" for name in types(schema) if name not in _TYPES)
    if any(isinstance(member, float | list | dict) for member in schema.get("enum", ())):
        yield "'enum' may hold only strings, whole numbers, true, false and null"
    re.compile(schema.get("pattern", ""))
    yield from misuse(schema["not"]) if "not" in schema else ()


def fault(value: Any, schema: Schema) -> str:
    """Return what is wrong with a value, in words that don't quote it; "" if nothing is.

    >>> fault("Zürich", {"type": "string", "maxLength": 3})
    'string against maxLength'

    Args:
        value: as a JSON parser makes it, numbers as Decimal.
        schema: the schema of its column.
    """
    broken = [word for word, rule in rules(schema).items() if not _KEYWORDS[word](rule, value)]
    if not broken:
        return ""
    kind = next(name for name, fits in _TYPES.items() if fits(value))
    return kind if "type" in broken else f"{kind} against {', '.join(broken)}"


def types(schema: Schema) -> list[str]:
    """Return the types a value may have."""
    return _listed(schema.get("type", list(_TYPES)))


def value_types(schema: Schema) -> set[str]:
    """Return the types that a value which is not null may have."""
    return set(types(schema)) - {"null"}


def base_type(schema: Schema) -> str:
    """Return the type of PostgreSQL that a column has, without lengths and precisions.

    >>> base_type({"x-postgresql-type": "timestamp(3) without time zone"})
    'timestamp without time zone'
    """
    declared: str = schema[POSTGRESQL_TYPE]
    return re.sub(r"\(.*?\)", "", declared)


def _listed(types: str | list[str]) -> list[str]:
    return [types] if isinstance(types, str) else types


def _is_member(members: list[Any], value: Any) -> bool:
    """Tell whether a list contains a value; in JSON, unlike in Python, 1 does not equal true."""
    return any(
        member == value and isinstance(member, bool) == isinstance(value, bool)
        for member in members
    )


def _bound(holds: Callable[[Any, Any], bool]) -> Callable[[Any, Any], bool]:
    return lambda bound, value: not isinstance(value, Decimal) or holds(value, bound)


def _text(holds: Callable[[Any, str], bool]) -> Callable[[Any, Any], bool]:
    return lambda argument, value: not isinstance(value, str) or holds(argument, value)


# Each rule takes the keyword's argument and a value. A rule about numbers accepts any other value,
# and so does one about strings.
BOUNDS: Mapping[str, Callable[[Any, Any], bool]] = {
    "minimum": _bound(lambda value, bound: value >= bound),
    "maximum": _bound(lambda value, bound: value <= bound),
    "exclusiveMinimum": _bound(lambda value, bound: value > bound),
    "exclusiveMaximum": _bound(lambda value, bound: value < bound),
}
_KEYWORDS: Mapping[str, Callable[[Any, Any], bool]] = {
    **BOUNDS,
    "type": lambda types, value: any(_TYPES[name](value) for name in _listed(types)),
    "enum": _is_member,
    "minLength": _text(lambda least, value: len(value) >= least),
    "maxLength": _text(lambda most, value: len(value) <= most),
    "pattern": _text(lambda pattern, value: re.search(pattern, value) is not None),
    "not": lambda schema, value: bool(fault(value, schema)),
}
