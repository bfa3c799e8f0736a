"""When two DataFrames are the same: in their types, and in each value and its type."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from shared.json_values import Json
from shared.jsonlines import to_json_lines

if TYPE_CHECKING:
    from collections.abc import Iterable


def assert_same(found: pd.DataFrame, expected: pd.DataFrame) -> None:
    """Assert that frames are the same, as far as lines can tell."""
    assert list(found) == list(expected)
    assert found.dtypes.to_dict() == expected.dtypes.to_dict()
    assert type(found.index) is pd.RangeIndex
    assert to_json_lines(found) == to_json_lines(expected)
    for name in expected:
        assert spelled(found[name]) == spelled(expected[name]), name


def spelled(values: Iterable[Any]) -> list[tuple[type, str]]:
    """Return each value with its type, so that 1 is not True, 3.10 not 3.1, and NaN is NaN."""
    return [(type(None), "") if is_null(value) else (type(value), _text(value)) for value in values]


def is_null(value: Any) -> bool:
    """Tell whether a value lands as null: of a JSON document `null` nobody can tell any more."""
    return (
        value is None
        or value is pd.NA
        or value is pd.NaT
        or (type(value) is Json and value == "null")
    )


def _text(value: Any) -> str:
    # What splits texts into lines is escaped in the line, and a document's text is not changed.
    return (
        to_json_lines(pd.DataFrame({"v": [value]})).decode() if type(value) is Json else repr(value)
    )
