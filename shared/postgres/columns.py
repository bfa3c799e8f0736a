"""Values on their way from PostgreSQL into the columns of a DataFrame, without loss.

A batch is fetched as one row of aggregates: for each column, one value that holds all of its
values. That is several times faster than one message per row, and integers and timestamps arrive in
PostgreSQL's binary form, without rounding or formatting. Values that pg8000 would decode wrongly
(BC dates, host bits of an inet) or not at all (24:00:00, arrays with bounds) arrive as text, and so
never reach its decoders.

The type of a frame's column, by the type of the column in PostgreSQL:

    integers                int64; Int64 if there are NULLs
    boolean                 bool; boolean if there are NULLs
    timestamp, timestamptz  datetime64[us], datetime64[us, UTC]; if a value is outside Python's
                            years 1 to 9999, objects: datetime, and PostgreSQL's text for that value
    numeric                 Decimal objects, with the scale they have in the database
    float4, float8          float64; objects if there are NULLs or NaN, which float64 confuses
    json, jsonb, arrays     `Json`: text that is JSON already
    bytea                   base64 text
    all others              text as PostgreSQL spells it

Short values that are repeated may be categories of these types: see `shared.postgres.categories`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC
from functools import cache, partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
from pg8000.native import identifier

from shared.postgres import decoding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from shared.postgres.catalogue import Column

    type Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class _Codec:
    """How a column is fetched and decoded.

    Attributes:
        aggregate: SQL over the column {c}.
        decode: turns the aggregate's text (None if there are no rows) into the column's values.
    """

    aggregate: str
    decode: Callable[[str | None], Any]


class _Kind(NamedTuple):
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

    quick: _Codec
    nullable: _Codec
    careful: _Codec
    length: str | None = None
    rendering: str | None = None


def aggregates(
    columns: Sequence[Column], *, careful: bool = True, longest: int = 0
) -> Iterator[str]:
    """Yield the SQL expression that fetches each column, for `decode_frame`.

    Args:
        columns: the table's columns, as `rendered` returns them.
        careful: whether to fetch whatever the values are.
        longest: how long a value may be, in bytes, if it is fetched without care.
    """
    for column in columns:
        aggregate = _codec(column, careful=careful).aggregate
        yield aggregate.format(c=identifier(column.name), longest=longest)


def rendered(columns: Sequence[Column]) -> Iterator[str]:
    """Yield SQL for each column of the rows `t`: as it is, or its text if that tells its length."""
    for column in columns:
        name, rendering = identifier(column.name), _kind(column).rendering
        yield f"{rendering.format(c=f't.{name}')} AS {name}" if rendering else f"t.{name}"


def has_rendered(columns: Sequence[Column]) -> bool:
    """Tell whether there is a column of which only the text tells its length."""
    return any(_kind(column).rendering for column in columns)


def lengths(columns: Sequence[Column]) -> list[str]:
    """Return SQL for the length in bytes of each column of the rows `t` that may be long.

    What a value takes in storage says little: it may be compressed a hundredfold, or computed. The
    length of text and bytea is in the value's header, so it costs next to nothing to ask for.
    """
    found = []
    for column in columns:
        kind, name = _kind(column), f"t.{identifier(column.name)}"
        if kind.length:
            found.append(kind.length.format(c=(kind.rendering or "{c}").format(c=name)))
    return found


def decode_frame(
    columns: Sequence[Column], rows: int, values: Sequence[str | None], *, careful: bool = True
) -> pd.DataFrame:
    """Return `rows` rows as a DataFrame.

    Args:
        columns: the table's columns, in order.
        rows: how many rows were aggregated.
        values: what the `aggregates` of these columns returned.
        careful: as it was for `aggregates`.

    Raises:
        MiscountError: these rows must be read with `careful`.
    """
    decoded = {}
    for column, value in zip(columns, values, strict=True):
        decoded[column.name] = _codec(column, careful=careful).decode(value)
        if len(decoded[column.name]) != rows:
            raise decoding.MiscountError(column.name)
    return pd.DataFrame(decoded, columns=[column.name for column in columns], copy=False)


def _codec(column: Column, *, careful: bool) -> _Codec:
    kind = _kind(column)
    if careful:
        return kind.careful
    return kind.nullable if column.nullable else kind.quick


def _kind(column: Column) -> _Kind:
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
def _short_numeric(scale: int) -> _Kind:
    decode = partial(decoding.decimals_of_scale, max(scale, 0))
    return _always("string_agg(coalesce({c}::text, ''), ',')", decode)


def _always(aggregate: str, decode: Callable[[str | None], Any]) -> _Kind:
    codec = _Codec(aggregate, decode)
    return _Kind(codec, codec, codec)


def _long(text: str, length: str = "octet_length({c})") -> _Kind:
    """Return the codecs of texts that may be long, fetched as a JSON array.

    The number 0 stands in the array for a text that is too long, and can't be mistaken for one.

    Args:
        text: SQL for a value as it is fetched.
        length: see `_Kind`.
    """
    value = f"CASE WHEN {length} > {{longest}} THEN to_json(0) ELSE to_json({text}) END"
    quick = _Codec(f"json_agg({value})::text", decoding.texts)
    return _Kind(quick, quick, _Codec(f"json_agg({text})::text", decoding.texts), length)


def _joined(separator: str, decode: Callable[[str | None], Any], rendering: str) -> _Kind:
    """Return the codecs of texts that may be long, are not empty, and lack a separator."""
    text = "coalesce({c}, '')"
    short = f"CASE WHEN octet_length({{c}}) > {{longest}} THEN {separator} ELSE {text} END"
    quick = _Codec(f"string_agg({short}, {separator})", decode)
    careful = _Codec(f"string_agg({text}, {separator})", decode)
    return _Kind(quick, quick, careful, "octet_length({c})", rendering)


def _packed(send: str, dtype: str, decode: Callable[[Array, Array], Any]) -> _Kind:
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
    any_value = _Codec(f"encode(string_agg({value_or_null}, NULL), 'hex')", careful)
    return _Kind(_Codec(f"encode(string_agg({value}, NULL), 'hex')", quick), any_value, any_value)


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
_SHORT = _Kind(
    quick=_Codec(r"string_agg(coalesce({c}::text, E'\x1f'), E'\x1f')", decoding.separated),
    nullable=_Codec(
        r"string_agg(CASE {c}::text WHEN E'\x1e' THEN E'\x1f' ELSE coalesce({c}::text, E'\x1e') "
        r"END, E'\x1f')",
        _or_null,
    ),
    careful=_Codec("json_agg({c}::text)::text", decoding.texts),
)
# Each is cast, because users' operators and functions may come first for varchar and for domains,
# and has no collation, because control characters count for nothing in some.
_TEXT = _Kind(
    quick=_Codec(
        r"string_agg(CASE WHEN octet_length({c}::text) <= {longest} THEN {c}::text "
        r"ELSE E'\x1f' END, E'\x1f')",
        decoding.separated,
    ),
    nullable=_Codec(
        r"string_agg(CASE WHEN {c} IS NULL THEN E'\x1e' "
        r"""WHEN octet_length({c}::text) <= {longest} AND {c}::text COLLATE "C" <> E'\x1e' """
        r"THEN {c}::text ELSE E'\x1f' END, E'\x1f')",
        _or_null,
    ),
    # For the server and for us this is several times as fast as an array, if the texts are long.
    # The lengths are those of what arrives, whatever the encoding of the database is.
    careful=_Codec(
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
