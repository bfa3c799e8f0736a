"""Checks a column's values against a schema, in the form in which they land.

First a sample is checked, chosen so that one of its values breaks the schema if any value of the
column does: the extremes of a number with bounds, each distinct text. Only if one does, the column
is checked row by row. The landed JSON text is checked, so the verdict is that of any validator that
reads the lines.
"""

from __future__ import annotations

import json
from contextlib import suppress
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shared.contracts.schema import BOUNDS, TIMESTAMP, TIMESTAMP_UTC, fault, rules, types
from shared.json_values import to_json
from shared.jsonlines import to_json_texts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shared.contracts.schema import Schema


def column_faults(column: pd.Series[Any], schema: Schema) -> list[str]:
    """Return what is wrong with each value, in words that don't quote it; "" where nothing is.

    The list is empty if no value is wrong.
    """
    if not len(column):
        return []
    sample = _sample(column, schema)
    if sample is not None and not any(fault(value, schema) for value in sample):
        return []
    by_row = _faults_by_row(column, schema)
    return by_row if any(by_row) else []


def _sample(column: pd.Series[Any], schema: Schema) -> Iterable[Any] | None:
    """Return values, as they land, of which one breaks the schema if one of the column's does.

    None if only the whole column is such a sample.
    """
    keywords = rules(schema).keys() - {"type"}
    if isinstance(column.dtype, pd.CategoricalDtype):
        nulls = [None] * bool(column.hasnans)
        return _sample_of_objects([*column.cat.categories, *nulls], keywords, types(schema))
    if column.dtype == object:
        return _sample_of_objects(column.tolist(), keywords, types(schema))
    if schema.items() >= TIMESTAMP.items() or schema.items() >= TIMESTAMP_UTC.items():
        keywords -= TIMESTAMP.keys()  # if the extremes have this form, so has all between them
    if column.dtype.kind in "iuM" and keywords <= BOUNDS.keys():
        return _extremes(column)
    return _landed(column.drop_duplicates())


def _extremes(column: pd.Series[Any]) -> list[Any]:
    """Return the ends of integers or timestamps as they land, and null if there is a NULL."""
    if column.dtype.kind == "M":
        moments = column.to_numpy("datetime64[us]")
        known = moments[~np.isnat(moments)]
        zone = getattr(column.dtype, "tz", None)
        ends = [json.loads(to_json(pd.Timestamp(each, tz=zone))) for each in _ends(known)]
    else:
        plain = isinstance(column.dtype, np.dtype)  # without NULLs
        known = (column if plain else column.dropna()).to_numpy()
        ends = [Decimal(int(each)) for each in _ends(known)]
    return [*ends, None] if len(known) < len(column) else ends


def _ends(values: np.ndarray[Any, Any]) -> Sequence[Any]:
    return (values.min(), values.max()) if len(values) else ()


def _sample_of_objects(
    values: list[Any], keywords: set[str], types: list[str]
) -> Iterable[Any] | None:
    found = set(map(type, values))
    nulls = [None] * (type(None) in found)
    found.discard(type(None))
    if found <= {str}:
        return set(values) if keywords else [*[""] * len(found), *nulls]
    if found == {Decimal} and keywords <= BOUNDS.keys() and "integer" not in types:
        with suppress(InvalidOperation, TypeError):  # a NaN can't be compared: no sample
            numbers = set(values) - {None}
            extremes = [min(numbers), max(numbers)]
            if all(map(Decimal.is_finite, extremes)):  # NaN and Infinity land as strings
                return [*extremes, *nulls]
    return None


def _faults_by_row(column: pd.Series[Any], schema: Schema) -> list[str]:
    texts = to_json_texts(column)
    by_text = {text: fault(_value(text), schema) for text in set(texts)}
    return [by_text[text] for text in texts]


def _landed(column: pd.Series[Any]) -> list[Any]:
    return [_value(text) for text in to_json_texts(column)]


def _value(text: bytes) -> Any:
    """Return the value of a JSON text, numbers as Decimal; an array or object without its members.

    No keyword looks into these, and Python's parser fails on deeply nested ones.
    """
    first = text.lstrip()[:1]
    if first in {b"[", b"{"}:
        return [] if first == b"[" else {}
    return json.loads(text, parse_int=Decimal, parse_float=Decimal)
