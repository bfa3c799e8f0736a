"""What is another spelling of a value, and what is another value."""

from __future__ import annotations

import json
from decimal import Decimal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from benchmarks.spelling import is_same, parse


@pytest.mark.parametrize(
    ("type_", "said", "written"),
    [
        ("numeric", "3.10", "3.10"),
        ("numeric", "3.10", '"3.10"'),
        ("numeric", "NaN", '"NaN"'),
        ("numeric", "-Infinity", '"-Infinity"'),
        ("double precision", "0.1", "1e-1"),
        ("double precision", "NaN", '"nan"'),
        ("double precision", "-0", "-0.0"),
        ("real", "0.1", "0.10000000149011612"),
        ("bigint", "9007199254740993", '"9007199254740993"'),
        ("boolean", "false", "false"),
        ("timestamp", "2022-11-03 14:20:52.186", '"2022-11-03T14:20:52.186000"'),
        ("timestamp", "2022-11-07 00:00:00", '"2022-11-07"'),
        ("timestamp", "0044-03-15 12:00:00 BC", '"0044-03-15 (BC) 12:00:00"'),
        ("timestamp", "0044-03-15 12:00:00 BC", '"-0043-03-15 12:00:00.000"'),
        ("timestamp", "10000-01-01 00:00:00", '"+10000-01-01 00:00:00"'),
        ("timestamptz", "2022-11-03 08:50:52.1+00", '"2022-11-03T08:50:52.100000+00:00"'),
        ("timestamptz", "2022-11-03 08:50:00+00", '"2022-11-03T08:50:00Z"'),
        ("time", "24:00:00", '"24:00:00"'),
        ("interval", "1 mon 2 days 03:04:05.000006", '"1 month 2 days 03:04:05.000006"'),
        ("bytea", r"\xdeadbeef", '"3q2+7w=="'),
        ("bytea", r"\x00ff0a5c", r'"\\x00\\xFF\\x0A\\x5C"'),
        ("json", '{"a": 3.10,\n "b": 1}', r'"{\"b\": 1, \"a\": 3.10}"'),
        ("integer[]", ["1", None, "3"], "[1, null, 3]"),
        ("integer[]", [["1"], ["2"]], '"[[1], [2]]"'),
        ("money", "-$1,234.50", '"-1234.50"'),
        ("inet", "::1/128", '"::1"'),
        ("text", None, "null"),
    ],
)
def test_another_spelling_is_the_same_value(type_, said, written):
    assert is_same(type_, said, parse(written))


@pytest.mark.parametrize(
    ("type_", "said", "written"),
    [
        ("numeric", "3.10", "3.1"),
        ("numeric", "3.10", "3.1000"),
        ("numeric", "NaN", "0.0"),
        ("numeric", "12345678901234567890.1234567890", "12345678901234570000.0"),
        ("double precision", "NaN", "null"),
        ("double precision", "-0", "0.0"),
        ("double precision", "Infinity", "1e308"),
        ("real", "0.1", "0.2"),
        ("bigint", "9007199254740993", "9007199254740992"),
        ("boolean", "false", "null"),
        ("boolean", "false", "0"),
        ("timestamp", "2022-11-03 14:20:52.186001", '"2022-11-03T14:20:52.186"'),
        ("timestamp", "2022-11-03 14:20:50", '"2022-11-03T14:20:5"'),
        ("timestamp", "0044-03-15 12:00:00 BC", '"0044-03-15 12:00:00"'),
        ("timestamp", "infinity", '"9999-12-31 23:59:59"'),
        ("timestamptz", "2022-11-03 08:50:00+00", '"2022-11-03T08:50:00+05:30"'),
        ("time", "24:00:00", '"00:00:00"'),
        ("interval", "1 mon", '"30 days"'),
        ("interval", "-1 days +02:03:00", '"1 day 02:03:00"'),
        ("interval", "00:00:00", '""'),
        ("text", "null", "null"),
        ("text", "", "null"),
        ("text", "1", "1"),
        ("bytea", r"\x", "null"),
        ("json", '{"a": 3.10}', '{"a": 3.1}'),
        ("jsonb", '"1"', "1"),
        ("integer[]", [["1"], ["2"]], "[1, 2]"),
        ("integer[]", ["1", None], "[1]"),
        ("money", "$1,234.50", "123450"),
        ("text", None, '""'),
    ],
)
def test_another_value_is_not(type_, said, written):
    assert not is_same(type_, said, parse(written))


@pytest.mark.parametrize("text", ["NaN", "[Infinity]", '{"a": -Infinity}', "", "{", "nul"])
def test_what_is_not_json_is_no_value(text):
    with pytest.raises(ValueError, match=r"."):
        parse(text)


numbers = st.decimals(allow_nan=False, allow_infinity=False)


@given(numbers, numbers)
def test_a_number_is_what_has_all_its_digits(number, other):
    assert is_same("numeric", str(number), parse(json.dumps(str(number))))
    assume(number.as_tuple() != other.as_tuple())
    assert not is_same("numeric", str(number), parse(json.dumps(str(other))))


@given(st.datetimes(), st.datetimes())
def test_a_timestamp_is_what_has_all_its_microseconds(moment, other):
    said = str(moment)
    assert is_same("timestamp", said, moment.isoformat(timespec="microseconds"))
    assert is_same("timestamp", said, other.isoformat()) == (moment == other)


@given(st.binary(), st.binary())
def test_bytes_are_what_has_all_of_them(value, other):
    said = rf"\x{value.hex()}"
    assert is_same("bytea", said, said)
    assert is_same("bytea", said, rf"\x{other.hex()}") == (value == other)


@given(st.integers(-(10**6), 10**6), st.integers(-(10**6), 10**6), st.integers(0, 86_399))
def test_an_interval_is_its_months_its_days_and_its_seconds(months, days, seconds):
    clock = f"{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    said = f"{months} mons {days} days {clock}"
    assert is_same("interval", said, f"{months} months {days} days {clock}.000")
    assert not is_same("interval", said, f"{months + 1} months {days} days {clock}")
    assert not is_same("interval", said, f"{months} months {days - 1} days {clock}")
    assert not is_same("interval", said, f"{months} months {days} days {clock}.5")


def test_a_decimal_is_no_trap_of_python():
    assert Decimal("3.10") == Decimal("3.1")  # why digits are compared, and not numbers
