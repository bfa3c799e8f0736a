"""How the values of each type are fetched and decoded; `shared.postgres.columns` does it.

A type has up to three statements for its values, because the fastest ones are not right for all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shared.postgres import decoding

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.postgres.catalogue import Column

    type Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Codec:
    """How a column is fetched and decoded.

    Attributes:
        aggregate: SQL over the column {c}.
        decode: turns the aggregate's text (None if there are no rows) into the column's values.
    """

    aggregate: str
    decode: Callable[[str | None], Any]


class Kind(NamedTuple):
    """How columns of one type are measured, fetched and decoded.

    Attributes:
        quick: right if no value is NULL, contains the separator, or is longer than {longest}; if
            not, it raises a MiscountError or the count is wrong.
        nullable: the same for columns that may have NULLs.
        careful: right for all values.
        length: SQL for a value's length in bytes; None if all are short.
        rendering: SQL that makes text of the column {c}, if only its text tells its length. All
            else then takes that text for the column.
    """

    quick: Codec
    nullable: Codec
    careful: Codec
    length: str | None = None
    rendering: str | None = None


def kind_of(column: Column) -> Kind:
    """Return how a column's values are fetched and decoded, by its type."""
    if column.category == "A":
        return _ARRAY
    if column.category == "E":  # users' types may have any name
        return _SHORT
    if column.category in "CR":  # composite, range
        return _SPELLED
    scale = _short_scale(column.type_name)
    if scale is not None:
        return _short_numeric(scale)
    return _KINDS.get(column.base, _OTHER_STRING if column.category == "S" else _SPELLED)


def _short_scale(type_name: str) -> int | None:
    """Return the scale of a `numeric(10,2)`, if its values have few digits; None of others."""
    declared = re.fullmatch(r"numeric\((\d+),(-?\d+)\)", type_name)
    if not declared:
        return None
    precision, scale = map(int, declared.groups())
    return scale if max(precision, scale, precision - scale) <= _SHORT_DIGITS else None


@cache
def _short_numeric(scale: int) -> Kind:
    decode = partial(decoding.decimals_of_scale, max(scale, 0))
    return _always("string_agg(coalesce({c}::text, ''), ',')", decode)


def _always(aggregate: str, decode: Callable[[str | None], Any]) -> Kind:
    codec = Codec(aggregate, decode)
    return Kind(codec, codec, codec)


def _long(text: str, length: str = "octet_length({c})") -> Kind:
    """Return the codecs of texts that may be long, fetched as a JSON array.

    The number 0 stands in the array for a text that is too long, and can't be mistaken for one.

    Args:
        text: SQL for a value as it is fetched.
        length: see `Kind`.
    """
    value = f"CASE WHEN {length} > {{longest}} THEN to_json(0) ELSE to_json({text}) END"
    quick = Codec(f"json_agg({value})::text", decoding.texts)
    return Kind(quick, quick, Codec(f"json_agg({text})::text", decoding.texts), length)


def _joined(separator: str, decode: Callable[[str | None], Any], rendering: str) -> Kind:
    """Return the codecs of texts that may be long, are not empty, and lack a separator."""
    text = "coalesce({c}, '')"
    short = f"CASE WHEN octet_length({{c}}) > {{longest}} THEN {separator} ELSE {text} END"
    quick = Codec(f"string_agg({short}, {separator})", decode)
    careful = Codec(f"string_agg({text}, {separator})", decode)
    return Kind(quick, quick, careful, "octet_length({c})", rendering)


def _packed(send: str, dtype: str, decode: Callable[[Array, Array], Any]) -> Kind:
    """Return the codecs of numbers of one size; where NULLs may be, behind a byte: 0 for a NULL.

    Args:
        send: the SQL function that returns a value's binary form: `int4send`.
        dtype: numpy's name of that form: `>i4`.
        decode: makes the column from the numbers as int64 and a mask that is True at NULLs.
    """
    record = np.dtype([("present", "?"), ("number", dtype)])

    def quick(text: str | None) -> Any:
        numbers = np.frombuffer(bytes.fromhex(text or ""), dtype).astype(np.int64)
        return decode(numbers, np.zeros(len(numbers), bool))

    def careful(text: str | None) -> Any:
        records = np.frombuffer(bytes.fromhex(text or ""), record)
        return decode(records["number"].astype(np.int64), ~records["present"])

    value = f"{send}({{c}})"
    value_or_null = rf"coalesce('\x01'::bytea || {value}, '\x{'00' * record.itemsize}')"
    any_value = Codec(f"encode(string_agg({value_or_null}, NULL), 'hex')", careful)
    return Kind(Codec(f"encode(string_agg({value}, NULL), 'hex')", quick), any_value, any_value)


_SHORT_DIGITS = 40
_SHORT_TYPES = (
    *("date", "time", "timetz", "interval", "uuid", "inet", "cidr", "macaddr", "macaddr8"),
    *("money", "oid", "xid", "xid8", "name"),
)
# The quick codecs of text write a NULL, or what is too long, as a separator, which counts as two
# values. So the count is too high wherever there is one, whatever separators the other values
# contain. A NOT NULL column may hold NULLs from before its constraint, if that is NOT VALID.
# Where NULLs may be, one letter stands for them, and a separator for a text that is that letter.
_or_null = partial(decoding.separated, null="\x1e")
_SHORT = Kind(
    quick=Codec(r"string_agg(coalesce({c}::text, E'\x1f'), E'\x1f')", decoding.separated),
    nullable=Codec(
        r"string_agg(CASE {c}::text WHEN E'\x1e' THEN E'\x1f' ELSE coalesce({c}::text, E'\x1e') "
        r"END, E'\x1f')",
        _or_null,
    ),
    careful=Codec("json_agg({c}::text)::text", decoding.texts),
)
# Values are cast, because users' operators and functions may fit a varchar or a domain better than
# PostgreSQL's own; and compared in "C", because other collations may pass over control characters.
_TEXT = Kind(
    quick=Codec(
        r"string_agg(CASE WHEN octet_length({c}::text) <= {longest} THEN {c}::text "
        r"ELSE E'\x1f' END, E'\x1f')",
        decoding.separated,
    ),
    nullable=Codec(
        r"string_agg(CASE WHEN {c} IS NULL THEN E'\x1e' "
        r"""WHEN octet_length({c}::text) <= {longest} AND {c}::text COLLATE "C" <> E'\x1e' """
        r"THEN {c}::text ELSE E'\x1f' END, E'\x1f')",
        _or_null,
    ),
    # For the server and for us this is several times as fast as an array, if the texts are long.
    # The lengths are those of what arrives, whatever the encoding of the database is.
    careful=Codec(
        "encode(string_agg(int4send(coalesce(octet_length(convert_to({c}::text, 'UTF8')), -1)), "
        "''), 'hex') || ':' || coalesce(string_agg({c}::text, ''), '')",
        decoding.texts_by_length,
    ),
    length="octet_length({c}::text)",
)
_SPELLED = _TEXT._replace(rendering="{c}::text")
# json_agg({c}) keeps the trailing blanks of a char(n), which {c}::text would strip.
_STRING = _long("{c}")
_OTHER_STRING = _STRING._replace(rendering="to_json({c}) #>> '{{}}'")
# JSON has no such character, not even in a string. A document of type json keeps its text as it was
# entered, which may have line breaks between tokens.
_JSON = _joined(r"E'\x1f'", decoding.embedded, "{c}::text")
_ARRAY = _JSON._replace(rendering="to_json({c})::text")
_FLOAT = _always("string_agg(coalesce({c}::text, ''), ',')", decoding.floats)
_KINDS = {
    "int2": _packed("int2send", ">i2", decoding.integers),
    "int4": _packed("int4send", ">i4", decoding.integers),
    "int8": _packed("int8send", ">i8", decoding.integers),
    "timestamp": _packed("timestamp_send", ">i8", decoding.timestamps(None)),
    "timestamptz": _packed("timestamptz_send", ">i8", decoding.timestamps(UTC)),
    "bool": _always(
        "string_agg(CASE {c} WHEN true THEN 't' WHEN false THEN 'f' ELSE 'n' END, '')",
        decoding.booleans,
    ),
    "numeric": _joined("','", decoding.decimals, "{c}::text"),
    "float4": _FLOAT,
    "float8": _FLOAT,
    "bpchar": _STRING,
    "text": _TEXT,
    "varchar": _TEXT,
    "json": _JSON,
    "jsonb": _JSON,
    "bytea": _long(r"replace(encode({c}, 'base64'), E'\n', '')", "(octet_length({c}) / 3 + 1) * 4"),
    **dict.fromkeys(_SHORT_TYPES, _SHORT),
}
