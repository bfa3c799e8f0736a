"""Lines are read as Python reads JSON, and where Python does not, too."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.json_reader import parse_line, split_members

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
DEEP = 20_000


@given(VALUES)
def test_what_python_reads_is_read_the_same(value):
    line = json.dumps(value).encode()
    assert parse_line(line) == json.loads(line)


def nested(levels):
    return b'{"id":7,"doc":' + b"[" * levels + b"]" * levels + b"}"


@pytest.mark.thorough
@settings(max_examples=10)
@given(VALUES, st.sampled_from([nested(DEEP), b'{"n":' + b"9" * 5000 + b"}"]))
def test_so_is_what_stands_beside_what_python_refuses(value, strange):
    line = b"[" + json.dumps(value).encode() + b"," + strange + b"]"
    assert parse_line(line)[0] == value


def test_an_integer_of_very_many_digits():
    [number] = parse_line(b"[" + b"7" * 5000 + b"]")
    assert number == Decimal("7" * 5000)


@pytest.mark.thorough
def test_documents_nested_very_deep_are_read_side_by_side():
    with ThreadPoolExecutor(8) as pool:
        lines = [nested(levels) for levels in range(DEEP, DEEP + 8)]
        assert [found["id"] for found in pool.map(parse_line, lines)] == [7] * 8


BROKEN = [
    b"", b"{", b'{"id":7', b'{"id":7}}', nested(DEEP)[:-1], nested(DEEP)[:-2] + b"}", b"[1,]",
    b'{"id":' + b"9" * 5000, b"\xff", b'["\x00"]', b"[01]", b"nul",
]  # fmt: skip


@pytest.mark.parametrize("line", BROKEN, ids=lambda line: str(line[:20]))
def test_what_is_not_json_is_refused(line):
    with pytest.raises(ValueError):  # noqa: PT011 - whatever is wrong with it
        parse_line(line)


@pytest.mark.parametrize("indent", [None, 1])
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_members_are_split_where_they_end(indent, members):
    texts = {name: json.dumps(value, indent=indent) for name, value in members.items()}
    line = "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in texts.items()) + "}\n"
    assert split_members(line.encode()) == texts


def test_members_nested_very_deep_are_split_too():
    document = "[" * DEEP + "]" * DEEP
    assert split_members(nested(DEEP)) == {"id": "7", "doc": document}


def test_numbers_with_a_point_are_made_by_whom_is_asked():
    assert parse_line(b'{"a":[1.10,1e2]}', Decimal) == {"a": [Decimal("1.10"), Decimal(100)]}
    found = parse_line(b'{"a":1.10,"n":' + b"9" * 5000 + b"}", Decimal)
    assert str(found["a"]) == "1.10"
