"""Repeated values are told apart as numbers; what comes out must be what was in the text."""

from __future__ import annotations

from decimal import Decimal

import pandas as pd
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from shared.jsonlines import to_json_lines
from shared.postgres.categories import plain, repeated, together
from shared.postgres.decoding import decimals, decimals_of_scale, separated

# Of every length around a word's and two words', and of characters that end behind a word.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00\x1f"))
prices = st.decimals(-100, 100, places=2)
ROWS = 600


def many(values):
    """Return these values over and over, so that it pays to look."""
    return [values[row % len(values)] for row in range(ROWS)]


@given(st.lists(texts, min_size=1, max_size=20))
@example(["1234567", "12345678", "123456789", "", "1234567€", "€€€€€€", "012345678901234€"])
@example(["1234567890123456", "1234567890123457", "12345678", "1234567890"])
def test_texts(values):
    column = separated("\x1f".join(many(values)))
    assert list(column) == many(values)
    longest = max(len(value.encode()) for value in values)
    assert isinstance(column, pd.Categorical) == (longest <= 16)


@given(st.lists(st.none() | texts, min_size=1, max_size=20))
@example([None])
@example(["", None])
@example(["1234567890123456", None])
@example(["12345678901234567", None])
def test_texts_and_nulls(values):
    assume("\x1e" not in values)
    text = "\x1f".join("\x1e" if value is None else value for value in many(values))
    found = pd.DataFrame({"x": separated(text, "\x1e")})
    assert plain(found)["x"].tolist() == many(values)
    longest = max(len((value or "").encode()) for value in values)
    assert isinstance(found["x"].dtype, pd.CategoricalDtype) == (longest <= 16)


@given(st.lists(st.none() | prices, min_size=1, max_size=20))
@example([None])
@example([Decimal("0.00"), None, Decimal("-0.01")])
def test_decimals_of_one_scale_and_nulls(values):
    text = ",".join("" if value is None else f"{value:f}" for value in many(values))
    found = pd.DataFrame({"x": decimals_of_scale(2, text)})
    assert isinstance(found["x"].dtype, pd.CategoricalDtype)
    assert plain(found)["x"].tolist() == many(values)
    assert to_json_lines(found) == to_json_lines(pd.DataFrame({"x": decimals(text)}))


@pytest.mark.parametrize("values", [["1.5", "1.50"], ["1.5"], ["1.500"], ["2"], ["15E-1"]])
def test_decimals_of_another_scale_are_no_categories(values):
    """Together with others, pandas would take 1.5 for 1.50."""
    column = decimals_of_scale(2, ",".join(many(values)))
    assert column.dtype == object
    assert list(map(str, column)) == list(map(str, map(Decimal, many(values))))


def test_nan_is_no_category():
    """pandas takes it for a missing value."""
    column = decimals_of_scale(2, ",".join(many(["NaN", "1.50"])))
    assert list(map(str, column)) == many(["NaN", "1.50"])


@pytest.mark.parametrize(
    "values", [many(["a"])[:499], [str(row) for row in range(5_000)], many(["a" * 17, "b"])]
)
def test_few_and_different_and_long_values_are_objects(values):
    assert repeated(",".join(values), ",", str) is None


def test_different_values_behind_a_sample_of_repeated_ones_are_objects():
    values = ["same"] * 2_000 + [str(row) for row in range(2_000)]
    assert repeated(",".join(values), ",", str) is None
    assert separated("\x1f".join(values)).tolist() == values


parts = st.one_of(
    st.lists(prices, min_size=1, max_size=10).map(
        lambda some: decimals_of_scale(2, ",".join(map(str, many(some))))
    ),
    st.lists(st.none() | prices, max_size=10).map(lambda some: pd.Series(some, dtype=object)),
)


@given(st.lists(parts, min_size=1, max_size=4))
def test_parts_together_are_the_rows_of_all(columns):
    frames = [pd.DataFrame({"x": column, "n": range(len(column))}) for column in columns]
    found = together(frames)
    lines = [to_json_lines(frame) for frame in frames]
    assert to_json_lines(found) == b"".join(lines)
    assert to_json_lines(plain(found)) == b"".join(lines)
    assert len(plain(found).select_dtypes("category").columns) == 0


def test_parts_that_are_all_repeated_stay_so():
    frames = [pd.DataFrame({"x": separated("\x1f".join(many([a, "b"])))}) for a in "ac"]
    assert together(frames)["x"].cat.categories.tolist() == ["a", "b", "c"]
