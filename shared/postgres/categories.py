"""Columns in which few values are repeated: each is held, checked and written once.

Such a column is categorical. pandas takes values for the same category if they are equal, so only
such values are held so that are spelled alike if they are equal: texts, and Decimals of one scale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    type Array = np.ndarray[Any, Any]

_FEWEST, _SAMPLE = 500, 2_000  # values for which it pays to look, and those to look at first
_MOST_BYTES = 16  # of a value: two words
# What of a word belongs to a value of so many bytes: its first bytes are the number's lowest.
_MASKS = np.array([2 ** (8 * size) - 1 for size in range(9)], "<u8")


def repeated(text: str, separator: str, parse: Callable[[str], Any]) -> pd.Categorical | None:
    """Return the values of a text that a separator parts.

    They are told apart as numbers, without making a string of each: in a third of the time.

    Args:
        text: of the values.
        separator: one ASCII character.
        parse: makes a value of its text; None is a NULL.

    Returns:
        None if there are few, long or mostly different values, or some that pandas takes for equal
        or for missing, such as NaN.
    """
    if len(text) > (text.count(separator) + 1) * (_MOST_BYTES + 1):  # long ones take long below
        return None
    octets = np.frombuffer(f"{text}{separator}".encode() + bytes(_MOST_BYTES), np.uint8)
    ends = np.flatnonzero(octets == ord(separator))
    starts = np.concatenate(([0], ends[:-1] + 1))
    sizes = ends - starts
    if len(starts) < _FEWEST or sizes.max() > _MOST_BYTES:
        return None
    for count in sorted({min(_SAMPLE, len(starts)), len(starts)}):
        places, texts = _told_apart(octets, starts[:count], sizes[:count])
        if len(texts) > count // 4:
            return None
    values = list(map(parse, texts))
    if None in values:
        null = values.index(None)
        places = np.where(places == null, -1, places - (places > null))
        del values[null]
    categories = pd.Index(values, dtype=object)
    if categories.hasnans or not categories.is_unique:
        return None
    return pd.Categorical.from_codes(places, categories)


def together(frames: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """Return the rows of frames with the same columns, one frame after the other."""
    if len(frames) == 1:
        return frames[0]
    columns = {name: _together([frame[name] for frame in frames]) for name in frames[0]}
    return pd.DataFrame(columns, copy=False)


def plain(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a frame whose columns are of objects where they were categorical."""
    return pd.DataFrame({name: _plain(column) for name, column in frame.items()}, copy=False)


def _together(parts: Sequence[pd.Series[Any]]) -> Any:
    kinds = {part.dtype for part in parts}
    if kinds <= {np.dtype("int64"), np.dtype("M8[us]")} and len(kinds) == 1:
        return np.concatenate([part.to_numpy() for part in parts])  # pandas takes a millisecond
    if all(isinstance(kind, pd.CategoricalDtype) for kind in kinds):
        return pd.api.types.union_categoricals([*parts])
    return pd.concat([_plain(part) for part in parts], ignore_index=True)


def _plain(column: pd.Series[Any]) -> pd.Series[Any]:
    if not isinstance(column.dtype, pd.CategoricalDtype):
        return column
    values = np.array([*column.cat.categories, None], object)  # whose place is -1
    return pd.Series(values[column.cat.codes], column.index, dtype=object, name=column.name)


def _told_apart(octets: Array, starts: Array, sizes: Array) -> tuple[Array, list[str]]:
    """Return for each value its place among the distinct ones, and their texts."""
    places, first = pd.factorize(_words(octets, starts, np.minimum(sizes, 8)))
    words = [first]
    if sizes.max() > 8:
        behind, second = pd.factorize(_words(octets, starts + 8, np.maximum(sizes - 8, 0)))
        # Each pair of words as one number: two digits, as it were, the second to this base.
        base = len(second)
        places, pairs = pd.factorize(places * base + behind)
        words = [first[pairs // base], second[pairs % base]]
    texts = np.column_stack(words).view(f"S{8 * len(words)}").ravel().tolist()
    return places, [text.decode() for text in texts]


def _words(octets: Array, starts: Array, sizes: Array) -> Array:
    """Return some octets from each place on, eight at most, as numbers."""
    from_each: Array = np.ndarray(len(octets) - 7, "<u8", octets, strides=(1,))
    words: Array = from_each[starts] & _MASKS[sizes]
    return words
