"""Values out of the texts in which the aggregates of `columns` return them."""

from __future__ import annotations

import json
import math
from datetime import datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from shared.json_values import Json
from shared.postgres.categories import repeated

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import tzinfo

    type Array = np.ndarray[Any, Any]

_EPOCH = datetime(2000, 1, 1)  # timestamp_send counts microseconds from here
_MICROSECOND = timedelta(microseconds=1)
_PYTHON_YEARS = range(
    (datetime.min - _EPOCH) // _MICROSECOND, (datetime.max - _EPOCH) // _MICROSECOND + 1
)
_INFINITIES = {2**63 - 1: "infinity", -(2**63): "-infinity"}


class MiscountError(Exception):
    """A column's values can't be told apart, or one is too long: read them with `careful`."""


def integers(numbers: Array, nulls: Array) -> Any:
    """Return integers as int64; as Int64 if there are NULLs."""
    return pd.arrays.IntegerArray(numbers, nulls) if nulls.any() else numbers


def timestamps(zone: tzinfo | None) -> Callable[[Array, Array], Any]:
    """Return what makes timestamps of a time zone, or of none, of microseconds since 2000."""

    def decode(microseconds: Array, nulls: Array) -> Any:
        extremes = microseconds.min(initial=0), microseconds.max(initial=0)  # a NULL is a 0
        if not all(int(extreme) in _PYTHON_YEARS for extreme in extremes):
            values = zip(microseconds.tolist(), nulls.tolist(), strict=True)
            return _objects([None if null else _moment(value, zone) for value, null in values])
        moments = np.datetime64(_EPOCH, "us") + microseconds.astype("timedelta64[us]")
        moments[nulls] = np.datetime64("NaT", "us")
        return pd.Series(moments).dt.tz_localize(zone) if zone else moments

    return decode


def _moment(microseconds: int, zone: tzinfo | None) -> datetime | str:
    """Return a datetime; for a timestamp that it can't hold, PostgreSQL's text."""
    if microseconds in _PYTHON_YEARS:
        return (_EPOCH + timedelta(microseconds=microseconds)).replace(tzinfo=zone)
    if microseconds in _INFINITIES:
        return _INFINITIES[microseconds]
    days, rest = divmod(microseconds, 86_400_000_000)
    # numpy counts a year 0, which does not exist: its -0043-03-15 is 44 BC.
    date = str(np.datetime64(_EPOCH, "D") + np.timedelta64(days, "D"))
    year = int(date[:-6])
    clock = (_EPOCH + timedelta(microseconds=rest)).time().isoformat()
    clock = clock.rstrip("0") if "." in clock else clock
    return (
        f"{year if year > 0 else 1 - year:04}{date[-6:]} {clock}"
        f"{'+00' if zone else ''}{'' if year > 0 else ' BC'}"
    )


def _objects(values: list[Any]) -> pd.Series[Any]:
    return pd.Series(values, dtype=object)  # explicit, or pandas infers a type from the values


def booleans(flags: str | None) -> Any:
    """Return booleans of letters: t, f, and n for a NULL."""
    letters = np.frombuffer((flags or "").encode(), np.uint8)
    values, nulls = letters == ord("t"), letters == ord("n")
    return pd.arrays.BooleanArray(values, nulls) if nulls.any() else values


def _numbers(text: str | None, parse: Callable[[str], Any]) -> list[Any]:
    """Parse numbers joined by commas; equal ones only once, because there are many."""
    texts = [] if text is None else text.split(",")
    parsed = {text: parse(text) if text else None for text in set(texts)}
    return list(map(parsed.__getitem__, texts))


def decimals(text: str | None) -> pd.Series[Any]:
    """Return Decimals of numbers joined by commas; nothing between two is a NULL."""
    return _objects(_numbers(text, Decimal))


def decimals_of_scale(scale: int, text: str | None) -> Any:
    """Return what `decimals` does; if they are repeated, and all have this scale, as categories.

    PostgreSQL does not coerce every value to the scale that its column has: not the DEFAULT of
    json_value (18.4).
    """
    found = repeated(text or "", ",", lambda each: Decimal(each) if each else None)
    if found is None or {each.as_tuple().exponent for each in found.categories} - {-scale}:
        return decimals(text)
    return found


def floats(text: str | None) -> Any:
    """Return floats of numbers joined by commas; nothing between two is a NULL."""
    values = _numbers(text, float)
    if any(value is None or math.isnan(value) for value in values):
        return _objects(values)
    return np.array(values, np.float64)


def separated(text: str | None, null: str | None = None) -> Any:
    """Return texts that a separator parts, as categories if they are repeated.

    Args:
        text: of all of them.
        null: what stands for a NULL; without it there is none.
    """
    found = repeated(text or "", "\x1f", lambda each: None if each == null else each)
    if found is not None:
        return found
    texts = [] if text is None else text.split("\x1f")
    return _objects([None if each == null else each for each in texts] if null else texts)


def texts(array: str | None) -> pd.Series[Any]:
    """Return the texts of a JSON array.

    Raises:
        MiscountError: one of them was too long.
    """
    texts = json.loads(array or "[]")
    if 0 in texts:
        raise MiscountError
    return _objects(texts)


def texts_by_length(text: str | None) -> pd.Series[Any]:
    """Cut texts apart that come one after the other, behind their lengths in bytes."""
    header, _, joined = (text or ":").partition(":")
    lengths = np.frombuffer(bytes.fromhex(header), ">i4").astype(np.int64)
    ends = np.cumsum(np.maximum(lengths, 0)).tolist()
    bounds = zip([0, *ends], ends, lengths.tolist(), strict=False)
    if joined.isascii():
        return _objects([joined[begin:end] if size >= 0 else None for begin, end, size in bounds])
    octets = joined.encode()
    return _objects(
        [octets[begin:end].decode() if size >= 0 else None for begin, end, size in bounds]
    )


def embedded(text: str | None) -> pd.Series[Any]:
    """Return JSON documents that a separator parts; an empty one is a NULL."""
    documents = [] if text is None else text.replace("\n", " ").replace("\r", " ").split("\x1f")
    return _objects([Json(document) if document else None for document in documents])
