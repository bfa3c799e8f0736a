"""How values leave PostgreSQL and become columns of a DataFrame without loss.

A batch of rows is fetched as one row of aggregates: per column a value or two that hold all of its
values. That is several times faster than a message per row, and numbers and timestamps arrive in
PostgreSQL's own binary form, which has no rounding and no spelling. What pg8000 would decode
wrongly (BC dates, host bits of an inet) or not at all (24:00:00, arrays with bounds) never reaches
its decoders: it comes as text.

What a frame holds, by the column's type:

    integers                int64, or Int64 when there are NULLs
    boolean                 bool, or boolean when there are NULLs
    timestamp, timestamptz  datetime64[us], datetime64[us, UTC]; when a value is out of Python's
                            years 1 to 9999, objects: datetime, and PostgreSQL's text for that value
    numeric                 Decimal objects, with the scale they have in the database
    float4, float8          float64, or objects when there are NULLs or NaN, which float64 confuses
    json, jsonb, arrays     `Json`: text that is JSON already
    bytea                   base64 text
    all others              text as PostgreSQL spells it
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from pg8000.native import identifier

from shared.jsonlines import Json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

_EPOCH = np.datetime64("2000-01-01", "us")  # what timestamp_send counts microseconds from
_PYTHON_YEARS = (
    (np.datetime64("0001-01-01", "us") - _EPOCH).astype(np.int64),
    (np.datetime64("10000-01-01", "us") - _EPOCH).astype(np.int64),
)


@dataclass(frozen=True, slots=True)
class Column:
    """A column as the catalogue describes it.

    Attributes:
        name: as in the table.
        type_name: as `format_type` spells it, e.g. `numeric(10,2)`.
        base: `typname` of the type, of the innermost one for a domain, e.g. `int4`.
        category: its `typcategory`: `A` is an array, `S` a string.
        nullable: whether the table allows NULL.
    """

    name: str
    type_name: str
    base: str
    category: str
    nullable: bool


@dataclass(frozen=True, slots=True)
class _Codec:
    """How one kind of column travels: SQL aggregates over {c}, and what makes a column of them."""

    aggregates: tuple[str, ...]
    decode: Callable[..., Any]


def aggregates(columns: Sequence[Column]) -> Iterator[str]:
    """Yield the expressions that fetch these columns, for `decode_frame`."""
    for column in columns:
        for aggregate in _codec(column).aggregates:
            yield aggregate.format(c=identifier(column.name))


def decode_frame(columns: Sequence[Column], rows: int, values: Sequence[Any]) -> pd.DataFrame:
    """Return `rows` rows as a DataFrame.

    Args:
        columns: the table's columns, in order.
        rows: how many rows were aggregated.
        values: what the `aggregates` of these columns returned.
    """
    rest = iter(values)
    decoded = {}
    for column in columns:
        codec = _codec(column)
        arguments = [next(rest) for _ in codec.aggregates]
        decoded[column.name] = codec.decode(rows, *arguments)
    return pd.DataFrame(decoded, columns=[column.name for column in columns])


def _codec(column: Column) -> _Codec:
    if column.category == "A":
        return _ARRAY
    if column.category == "S":
        return _STRING
    return _CODECS.get(column.base, _TEXT)


def _objects(values: list[Any]) -> pd.Series[Any]:
    return pd.Series(values, dtype=object)  # said, or pandas would infer a type from the values


def _nulls(flags: str | None) -> np.ndarray[Any, Any]:
    nulls: np.ndarray[Any, Any] = np.frombuffer((flags or "").encode(), np.uint8) == ord("n")
    return nulls


def _spread(packed: bytes | None, dtype: str, nulls: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return the values with a 0 wherever there is a NULL; aggregates leave NULLs out."""
    values = np.zeros(len(nulls), np.int64)
    values[~nulls] = np.frombuffer(packed or b"", dtype)
    return values


def _integers(dtype: str) -> Callable[..., Any]:
    def decode(_rows: int, packed: bytes | None, flags: str | None) -> Any:
        nulls = _nulls(flags)
        values = _spread(packed, dtype, nulls)
        return pd.arrays.IntegerArray(values, nulls) if nulls.any() else values

    return decode


def _booleans(_rows: int, flags: str | None) -> Any:
    nulls = _nulls(flags)
    values = np.frombuffer((flags or "").encode(), np.uint8) == ord("t")
    return pd.arrays.BooleanArray(values, nulls) if nulls.any() else values


def _timestamps(*, aware: bool) -> Callable[..., Any]:
    def decode(
        _rows: int, packed: bytes | None, flags: str | None, strange: list[str] | None
    ) -> Any:
        nulls = _nulls(flags)
        microseconds = _spread(packed, ">i8", nulls)
        if strange:
            return _mixed_timestamps(microseconds, nulls, strange, aware=aware)
        moments = _EPOCH + microseconds.astype("timedelta64[us]")
        moments[nulls] = np.datetime64("NaT", "us")
        return pd.Series(moments).dt.tz_localize("UTC") if aware else moments

    return decode


def _mixed_timestamps(
    microseconds: np.ndarray[Any, Any],
    nulls: np.ndarray[Any, Any],
    strange: list[str],
    *,
    aware: bool,
) -> pd.Series[Any]:
    """Return objects: what Python's datetime can't hold is PostgreSQL's text, in row order."""
    first, end = _PYTHON_YEARS
    texts = iter(strange)
    zone = UTC if aware else None
    return _objects(
        [
            None
            if null
            else (_EPOCH + np.timedelta64(value, "us")).item().replace(tzinfo=zone)
            if first <= value < end
            else next(texts)
            for value, null in zip(microseconds.tolist(), nulls.tolist(), strict=True)
        ]
    )


def _split(_rows: int, text: str | None) -> list[str]:
    return [] if text is None else text.split(",")


def _decimals(rows: int, text: str | None) -> pd.Series[Any]:
    return _objects([Decimal(value) if value else None for value in _split(rows, text)])


def _floats(rows: int, text: str | None) -> Any:
    values = [float(value) if value else None for value in _split(rows, text)]
    if any(value is None or math.isnan(value) for value in values):
        return _objects(values)
    return np.array(values, np.float64)


def _texts(_rows: int, values: list[str | None] | None) -> pd.Series[Any]:
    return _objects(values or [])


def _embedded(_rows: int, values: list[str | None] | None) -> pd.Series[Any]:
    return _objects([None if value is None else Json(value) for value in values or []])


_FLAGS = "string_agg(CASE WHEN {c} IS NULL THEN 'n' ELSE '-' END, '')"
# A type of json keeps its text as it was typed; between tokens that may be a line break.
_ON_ONE_LINE = r"json_agg(translate({json}, E'\n\r', '  '))"


def _binary(send: str, dtype: str) -> _Codec:
    return _Codec((f"string_agg({send}({{c}}), '')", _FLAGS), _integers(dtype))


def _timestamp(name: str, *, aware: bool) -> _Codec:
    years = f"{{c}} >= {name} '0001-01-01 00:00:00+00' AND {{c}} < {name} '10000-01-01 00:00:00+00'"
    return _Codec(
        (
            f"string_agg({name}_send({{c}}), '')",
            _FLAGS,
            f"json_agg({{c}}) FILTER (WHERE NOT ({years}))",
        ),
        _timestamps(aware=aware),
    )


_TEXT = _Codec(("json_agg({c}::text)",), _texts)
_STRING = _Codec(("json_agg({c})",), _texts)  # ::text would strip the blanks of a char(n)
_ARRAY = _Codec((_ON_ONE_LINE.format(json="to_json({c})::text"),), _embedded)
_JSON = _Codec((_ON_ONE_LINE.format(json="{c}::text"),), _embedded)
_NUMERIC = _Codec(("string_agg(coalesce({c}::text, ''), ',')",), _decimals)
_FLOAT = _Codec(("string_agg(coalesce({c}::text, ''), ',')",), _floats)
_CODECS = {
    "int2": _binary("int2send", ">i2"),
    "int4": _binary("int4send", ">i4"),
    "int8": _binary("int8send", ">i8"),
    "bool": _Codec(
        ("string_agg(CASE {c} WHEN true THEN 't' WHEN false THEN 'f' ELSE 'n' END, '')",),
        _booleans,
    ),
    "timestamp": _timestamp("timestamp", aware=False),
    "timestamptz": _timestamp("timestamptz", aware=True),
    "date": _STRING,
    "numeric": _NUMERIC,
    "float4": _FLOAT,
    "float8": _FLOAT,
    "json": _JSON,
    "jsonb": _JSON,
    "bytea": _Codec((r"json_agg(translate(encode({c}, 'base64'), E'\n', ''))",), _texts),
}
