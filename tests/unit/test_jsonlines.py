from __future__ import annotations

import json
import math
from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from shared.json_values import Json
from shared.jsonlines import to_json_lines


def line(value, dtype=object) -> str:
    frame = pd.DataFrame({"x": pd.Series([value], dtype=dtype)})
    text = to_json_lines(frame).decode()
    assert text.startswith('{"x":')
    assert text.endswith("}\n")
    return text[5:-2]


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (2**63 - 1, "int64", "9223372036854775807"),
        (2**63 - 1, "Int64", "9223372036854775807"),
        (None, "Int64", "null"),
        (True, "bool", "true"),
        (False, "boolean", "false"),
        (None, "boolean", "null"),
        (Decimal("3.10"), object, "3.10"),
        (Decimal("0.0000001"), object, "0.0000001"),
        (Decimal("1E+20"), object, "100000000000000000000"),
        (Decimal("-0.00"), object, "-0.00"),
        (Decimal("NaN"), object, '"NaN"'),
        (Decimal("-Infinity"), object, '"-Infinity"'),
        (0.1, "float64", "0.1"),
        (math.inf, "float64", '"Infinity"'),
        (math.nan, "float64", "null"),
        (math.nan, object, '"NaN"'),
        (None, object, "null"),
        (pd.NA, object, "null"),
        (pd.NaT, object, "null"),
        ("", object, '""'),
        (None, "str", "null"),
        ("é", "str", '"é"'),
        (Json('{"a": 1.10}'), object, '{"a": 1.10}'),
        (date(2022, 11, 3), object, '"2022-11-03"'),
        (datetime(2022, 11, 3, 14, 20, 52), object, '"2022-11-03T14:20:52.000000"'),
        ("2022-11-03 14:20:52.186", "datetime64[us]", '"2022-11-03T14:20:52.186000"'),
        ("2022-11-03 14:20:52", "datetime64[us, UTC]", '"2022-11-03T14:20:52.000000+00:00"'),
        (None, "datetime64[us, UTC]", "null"),
        (None, "datetime64[us]", "null"),
    ],
)
def test_how_a_value_is_written(value, dtype, expected):
    assert line(value, dtype) == expected


def test_a_moment_of_another_zone_is_written_in_utc():
    zone = timezone(timedelta(hours=5, minutes=30))
    moment = pd.Series([datetime(2022, 11, 3, 5, 30, tzinfo=zone)])
    text = to_json_lines(pd.DataFrame({"x": moment})).decode()
    assert text == '{"x":"2022-11-03T00:00:00.000000+00:00"}\n'


@given(
    st.lists(
        st.tuples(
            st.text(),
            st.decimals(allow_nan=False, allow_infinity=False),
            st.none() | st.integers(-(2**63), 2**63 - 1),
            st.none() | st.booleans(),
            st.floats(allow_nan=False, allow_infinity=False),
            st.none() | st.datetimes(timezones=st.just(UTC)),
        )
    )
)
def test_what_is_read_back_is_what_was_written(rows):
    names = ["text %s", "number", 'quo"ted', "flag", "float", "moment"]
    columns = {
        name: pd.Series([row[n] for row in rows], dtype=object) for n, name in enumerate(names)
    }
    columns['quo"ted'] = columns['quo"ted'].astype("Int64")
    columns["flag"] = columns["flag"].astype("boolean")
    body = to_json_lines(pd.DataFrame(columns))
    lines = body.decode().splitlines()  # which also splits at U+2028 and the like
    assert len(lines) == len(rows)
    for text, row in zip(lines, rows, strict=True):
        read = json.loads(text, parse_float=Decimal)
        assert list(read) == names
        assert read["text %s"] == row[0]
        assert Decimal(read["number"]) == row[1]
        assert (read['quo"ted'], read["flag"]) == (row[2], row[3])
        assert float(read["float"]) == row[4]
        moment = read["moment"] and datetime.fromisoformat(read["moment"])
        assert moment == row[5]


def test_a_value_without_an_exact_form_is_refused_by_name():
    with pytest.raises(TypeError, match='Column "x" has a set'):
        to_json_lines(pd.DataFrame({"x": [{1}]}))


@pytest.mark.parametrize("dtype", [np.int16, np.uint64, np.float32, "category", "Float64"])
def test_other_types_of_pandas_are_written_too(dtype):
    assert line(7, dtype) in {"7", "7.0"}


def test_an_empty_frame_has_no_lines():
    assert to_json_lines(pd.DataFrame({"x": []})) == b""


def values(series) -> list[str]:
    """Return the JSON text of each value of a column."""
    lines = to_json_lines(series.rename("x%d").to_frame()).decode().split("\n")
    assert lines.pop() == ""
    assert all(text.startswith('{"x%d":') and text.endswith("}") for text in lines)
    return [text[len('{"x%d":') : -1] for text in lines]


@given(
    st.integers(1, 19).flatmap(
        lambda width: st.lists(
            st.integers(10 ** (width - 1), min(10**width, 2**63) - 1) | st.integers(-20, 20)
            if width % 3 == 0
            else st.integers(10 ** (width - 1), min(10**width, 2**63) - 1),
            min_size=1,
        )
    )
)
def test_whole_numbers_of_one_width_and_of_many(numbers):
    assert values(pd.Series(numbers, dtype="int64")) == list(map(str, numbers))


@given(st.lists(st.none() | st.integers(-(2**63), 2**63 - 1) | st.integers(-20, 20_000)))
@example([None])
@example([7, None])
@example([-(2**63), 2**63 - 1, 0, None])
def test_whole_numbers_and_nulls(numbers):
    expected = ["null" if number is None else str(number) for number in numbers]
    assert values(pd.Series(numbers, dtype="Int64")) == expected


@given(st.lists(st.none() | st.booleans()))
def test_booleans(flags):
    expected = [{None: "null", True: "true", False: "false"}[flag] for flag in flags]
    assert values(pd.Series(flags, dtype="boolean")) == expected
    sure = [flag for flag in flags if flag is not None]
    assert values(pd.Series(sure, dtype=bool)) == [text for text in expected if text != "null"]


@given(st.lists(st.none() | st.datetimes(), min_size=1), st.booleans())
@example([None], True)
@example([None, datetime.min, datetime.max], False)
def test_moments(moments, in_utc):
    column = pd.Series(np.array(moments, "datetime64[us]"))
    end = "+00:00" if in_utc else ""
    expected = [
        f'"{moment.isoformat(timespec="microseconds")}{end}"' if moment else "null"
        for moment in moments
    ]
    assert values(column.dt.tz_localize(UTC) if in_utc else column) == expected


@given(st.lists(st.none() | st.text(), min_size=1, max_size=20), st.integers(500, 1200))
def test_texts_that_come_up_again_and_again(texts, rows):
    column = pd.Series([texts[row % len(texts)] for row in range(rows)], dtype=object)
    assert [json.loads(text) for text in values(column)] == column.tolist()


@given(st.lists(st.none() | st.text(), min_size=1, max_size=20), st.booleans())
def test_categories(texts, are_long):
    texts = [text and text * 100 if are_long else text for text in texts]
    column = pd.Series(texts * 3, dtype="category")
    assert [json.loads(text) for text in values(column)] == texts * 3


def test_short_and_long_values_side_by_side():
    """Records and texts alternate, in groups of different sizes."""
    rows = 9_000
    frame = pd.DataFrame(
        {
            "id": range(rows),
            "text": [f"{row}" * (row % 40) for row in range(rows)],
            "other": ["é"] * rows,
            "kind": pd.Categorical(["a", "b", "c"] * (rows // 3)),
            "flag": [True, False, False] * (rows // 3),
        }
    )
    lines = to_json_lines(frame).decode().splitlines()
    assert [json.loads(line) for line in lines] == frame.to_dict("records")


def test_equal_texts_of_different_types_are_not_mixed_up():
    column = pd.Series(["1", Json("1"), True, 1, Decimal("1.0"), None] * 200, dtype=object)
    assert values(column) == ['"1"', "1", "true", "1", "1.0", "null"] * 200
