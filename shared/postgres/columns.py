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

from typing import TYPE_CHECKING

import pandas as pd
from pg8000.native import identifier

from shared.postgres.codecs import kind_of
from shared.postgres.decoding import MiscountError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from shared.postgres.catalogue import Column
    from shared.postgres.codecs import Codec


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
        name, rendering = identifier(column.name), kind_of(column).rendering
        yield f"{rendering.format(c=f't.{name}')} AS {name}" if rendering else f"t.{name}"


def has_rendered(columns: Sequence[Column]) -> bool:
    """Tell whether there is a column of which only the text tells its length."""
    return any(kind_of(column).rendering for column in columns)


def lengths(columns: Sequence[Column]) -> list[str]:
    """Return SQL for the length in bytes of each column of the rows `t` that may be long.

    What a value takes in storage says little: it may be compressed a hundredfold, or computed. The
    length of text and bytea is in the value's header, so it costs next to nothing to ask for.
    """
    found = []
    for column in columns:
        kind, name = kind_of(column), f"t.{identifier(column.name)}"
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
            raise MiscountError(column.name)
    return pd.DataFrame(decoded, columns=[column.name for column in columns], copy=False)


def _codec(column: Column, *, careful: bool) -> Codec:
    kind = kind_of(column)
    if careful:
        return kind.careful
    return kind.nullable if column.nullable else kind.quick
