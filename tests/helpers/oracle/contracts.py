"""Schemas and frames to check contracts with, and what the `jsonschema` library says of them."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pandas as pd
from jsonschema import Draft202012Validator
from jsonschema.validators import extend

from local.totesys.added_tables import examples
from shared.contracts import schema
from shared.contracts.contract import FRAME, load
from shared.json_values import Json
from shared.jsonlines import to_json_lines
from shared.postgres.catalogue import Column
from shared.tables import Table
from tools.contract import DATE, EMAIL

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from random import Random


def _is_integer(_: object, value: object) -> bool:
    if isinstance(value, Decimal):
        return value == value.to_integral_value()
    return bool(Draft202012Validator.TYPE_CHECKER.is_type(value, "integer"))


# The library takes a Decimal for a number, but knows of floats only that 3.0 is an integer.
_Validator = extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine("integer", _is_integer),
)

FORMATS: list[dict[str, Any]] = [schema.TIMESTAMP, schema.TIMESTAMP_UTC, DATE, EMAIL]


def contract_of(table: str) -> Mapping[str, Any]:
    """Return the contract of a table that has one."""
    contract = load(Table(table))
    assert contract is not None, table
    return contract


def lands_as_timestamp(rules: Mapping[str, Any]) -> bool:
    """Tell whether a column's values land with six digits of seconds, as no text of Totesys."""
    return str(rules[schema.POSTGRESQL_TYPE]).startswith("timestamp")


def document(contract: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a line that has these columns."""
    return FRAME | {"required": list(contract), "properties": dict(contract)}


def catalogue(contract: Mapping[str, Any]) -> list[Column]:
    """Return the columns of a table that is declared as a contract says."""
    return [
        Column(name, rules[schema.POSTGRESQL_TYPE], "", "", schema.nullable(rules))
        for name, rules in contract.items()
    ]


def broken_rows(schema_of_a_line: Mapping[str, Any], lines: Sequence[str]) -> dict[str, list[int]]:
    """Return, by column, which lines break a schema there, as the library sees it.

    A fault that is no column's, such as a missing one, is the column "".
    """
    found: dict[str, set[int]] = defaultdict(set)
    validator = _Validator(schema_of_a_line)
    for row, line in enumerate(lines):
        for error in validator.iter_errors(json.loads(line, parse_float=Decimal)):
            found[str(error.path[0]) if error.path else ""].add(row)
    return {column: sorted(rows) for column, rows in found.items()}


_TEXTS = [
    "", "a", "ab", "éé", "SALE", "PURCHASE", "SALES_REFUND", "GBP", "GBP\n", "gbp", "NaN", "null",
    "1", " ", "x@y.z", "x@y.z\n", "x y@z.w", "@", "é@ü.ß", "2022-11-03", "2022-02-29",
    "2024-02-29", "2024-2-29", "1999-12-31", "2022-11-03\n", "2022-13-01", "infinity",
    "\u0662\u0660\u0662\u0662-11-03", "2022-11-03T14:20:52.186000", "0044-03-15 00:00:00 BC",
]  # fmt: skip
_INTEGERS = [
    -1, 0, 1, 3, 9_999_999, 10_000_000, 99_999_999, 100_000_000, 2**31 - 1, 2**31, 2**53 + 1,
    -(2**63),
]  # fmt: skip
_NUMERICS = [
    Decimal(digits)
    for digits in (
        "0", "3", "3.00", "3.14", "0.01", "-0.01", "-0.00", "1E+20", "1E-7", "99999999.99",
        "9007199254740993.00", "NaN", "Infinity", "-Infinity",
    )
]  # fmt: skip
_FLOATS = [0.0, -0.0, 3.0, 0.1, 1e22, -5e-324, math.inf, -math.inf]
_DATETIMES = [
    datetime(2022, 11, 3, 14, 20, 52), datetime(2022, 11, 3, 14, 20, 52, 186_000),
    datetime(2022, 11, 4), datetime.min, datetime.max,
]  # fmt: skip
_JSONS = [
    Json(text)
    for text in ('null', 'true', '1.10', '"a"', ' [1, [2]]', '{"a": 1}', '""', '[]', 'false', '1e2')
]  # fmt: skip

# What shared.postgres.columns makes: values, their dtype, the dtype if there are NULLs.
KINDS: dict[str, tuple[list[Any], str, str]] = {
    "integer": (_INTEGERS, "int64", "Int64"),
    "boolean": ([True, False], "bool", "boolean"),
    "numeric": (_NUMERICS, "object", "object"),
    "float": (_FLOATS, "float64", "object"),
    "float with NaN": ([*_FLOATS, math.nan], "object", "object"),
    "text": (_TEXTS, "object", "object"),
    "timestamp": (_DATETIMES, "datetime64[us]", "datetime64[us]"),
    "timestamptz": (_DATETIMES, "datetime64[us, UTC]", "datetime64[us, UTC]"),
    "timestamp out of range": ([*_DATETIMES, *_TEXTS], "object", "object"),
    "json": (_JSONS, "object", "object"),
}

# What a value that a schema names is in a column of a kind.
_HELD: dict[str, tuple[type, Callable[[Any], Any]]] = {
    "integer": (int, int),
    "numeric": (int, Decimal),
    "text": (str, str),
}

_NATURAL_TYPES = {
    "integer": ["integer"],
    "boolean": ["boolean"],
    "numeric": ["integer", "number", "string"],
    "float": ["integer", "number", "string"],
    "float with NaN": ["integer", "number", "string"],
    "json": ["array", "boolean", "integer", "number", "object", "string"],
}
_TYPES = ["null", "boolean", "integer", "number", "string", "array", "object"]
_PATTERNS: list[Any] = ["^[A-Z]{3}$", "a", "^$", "[0-9]", "000000$", "\\s"]
_PATTERNS += [each["pattern"] for each in FORMATS]
_LENGTHS: list[Any] = [0, 1, 2, 3, 10, 11, 26, 32]
_BOUNDS: list[Any] = [*_INTEGERS, 2**63]
_ARGUMENTS = {
    "minimum": _BOUNDS,
    "maximum": _BOUNDS,
    "exclusiveMinimum": _BOUNDS,
    "exclusiveMaximum": _BOUNDS,
    "minLength": _LENGTHS,
    "maxLength": _LENGTHS,
    "pattern": _PATTERNS,
}


def random_rules(rng: Random, kind: str) -> dict[str, Any]:
    """Return keywords that go well or badly with each other and with the kind."""
    rules = dict(rng.choice(FORMATS)) if rng.random() < 0.2 else {}
    if rng.random() < 0.2:
        members = [value for value in KINDS[kind][0] if type(value) in {int, str}]
        members += [None, True, False, 0, 1, 3]
        rules["enum"] = rng.sample(members, len(members) - rng.randint(1, 3))
    words = rng.sample(list(_ARGUMENTS), rng.choice([0, 0, 1, 2]))
    return rules | {word: rng.choice(_ARGUMENTS[word]) for word in words}


def random_schema(rng: Random, kind: str) -> dict[str, Any]:
    """Return the schema of a column, mostly of types that this kind of column lands as."""
    natural = _NATURAL_TYPES.get(kind, ["string"])
    types = {*rng.sample(natural, rng.randint(1, len(natural))), rng.choice([*natural, *_TYPES])}
    rules = random_rules(rng, kind)
    if rng.random() < 0.1:
        rules["not"] = random_rules(rng, kind)
    listed = sorted(types)
    return {schema.POSTGRESQL_TYPE: kind, "type": listed[0] if len(types) == 1 else listed} | rules


def judged(
    kind: str, rules: Mapping[str, Any], more: Sequence[Any] = ()
) -> tuple[list[Any], list[Any]]:
    """Return those of a kind's values, and NULL, that the library takes, and those it doesn't."""
    values = [*KINDS[kind][0], *more, None]
    lines = landed_lines(pd.DataFrame({"v": column(kind, values)}))
    broken = broken_rows(document({"v": rules}), lines).get("v", [])
    rest = [row for row in range(len(values)) if row not in broken]
    return [values[row] for row in rest], [values[row] for row in broken]


def named(kind: str, rules: Mapping[str, Any]) -> list[Any]:
    """Return what only these rules let pass, such as the labels of an enum."""
    if kind not in _HELD:
        return []
    of_json, held_as = _HELD[kind]
    return [held_as(value) for value in examples(rules, ()) if type(value) is of_json]


def column(kind: str, values: list[Any]) -> pd.Series[Any]:
    """Return values of a kind as a column."""
    _, dtype, dtype_with_nulls = KINDS[kind]
    return pd.Series(values, dtype=dtype_with_nulls if None in values else dtype)


def landed_lines(frame: pd.DataFrame) -> list[str]:
    """Return the frame's rows as they land."""
    return to_json_lines(frame).decode().split("\n")[:-1]
