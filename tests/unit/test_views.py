"""What the views of a table show of its two streams, and with which types."""

from __future__ import annotations

import json
import re
import string
from decimal import Decimal
from typing import Any

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.bucket import keys
from shared.contracts.contract import load
from shared.errors import ConfigError
from shared.tables import TABLES, Table
from tests.helpers.oracle.pages import page, section
from tests.helpers.oracle.queried import lines, queried
from tools.views import create_views, duckdb_type

THING = Table("thing")
CONTRACT: dict[str, Any] = {
    "thing_id": {"x-postgresql-type": "integer", "type": "integer"},
    "name": {"x-postgresql-type": "text", "type": ["string", "null"]},
}
FIRST = "thing/9-2026-11-26T17-55-02.jsonl"


def change_key(number):
    return keys.format_change_key(THING, number)


def contract(name, declared, kind="string"):
    """The contract of a table whose second column has this type."""
    column = {"x-postgresql-type": declared, "type": [kind, "null"]}
    return {"thing_id": CONTRACT["thing_id"], name: column}


# The table as it is now.

ids = st.integers(1, 12)
versions = st.fixed_dictionaries({"thing_id": ids, "name": st.none() | st.text(max_size=3)})
tombstones = st.builds(lambda row_id: {"thing_id": row_id, "_deleted": True}, ids)


def unique(rows):
    return st.lists(rows, max_size=12, unique_by=lambda row: row["thing_id"])


@settings(max_examples=25, deadline=None)
@given(unique(versions), st.lists(unique(versions | tombstones), max_size=12))
def test_the_table_is_what_a_consumer_has_who_applies_both_streams(rows, changes):
    copy = {row["thing_id"]: row["name"] for row in rows}
    for row in (row for change in changes for row in change):
        if row.get("_deleted"):
            copy.pop(row["thing_id"], None)
        else:
            copy[row["thing_id"]] = row["name"]
    objects = {change_key(number): lines(*change) for number, change in enumerate(changes, 1)}
    with queried(THING, CONTRACT, objects | {FIRST: lines(*rows)}) as duck:
        assert sorted(duck.sql("FROM thing").fetchall()) == sorted(copy.items())
        everything = duck.sql("SELECT thing_id, name, _deleted, _key FROM thing_history")
        assert sorted(everything.fetchall(), key=repr) == sorted(
            (
                (row["thing_id"], row.get("name"), "_deleted" in row, key)
                for key, body in (objects | {FIRST: lines(*rows)}).items()
                for row in map(json.loads, body.splitlines())
            ),
            key=repr,
        )


def test_a_history_has_stream_and_number_of_each_version():
    objects = {
        FIRST: lines({"thing_id": 1, "name": "a"}),
        change_key(10): lines({"thing_id": 1, "name": "b"}),
        change_key(9): lines({"thing_id": 1, "_deleted": True}),
    }
    with queried(THING, CONTRACT, objects) as duck:
        found = duck.sql("FROM thing_history ORDER BY _number NULLS FIRST").fetchall()
    assert found == [
        (1, "a", False, FIRST, "rows", None),
        (1, None, True, change_key(9), "changes", 9),
        (1, "b", False, change_key(10), "changes", 10),
    ]


def test_a_table_of_which_nothing_has_landed_is_empty_and_has_its_types():
    with queried(THING, CONTRACT, {}) as duck:
        for view in ("thing", "thing_history", "thing_objects"):
            assert duck.sql(f"FROM {view}").fetchall() == []
        assert list(map(str, duck.sql("FROM thing").types)) == ["INTEGER", "VARCHAR"]


def test_a_column_that_was_added_later_is_null_before():
    objects = {FIRST: lines({"thing_id": 1}, {"thing_id": 2, "name": "a", "dropped": 5})}
    with queried(THING, CONTRACT, objects) as duck:
        assert duck.sql("FROM thing ORDER BY 1").fetchall() == [(1, None), (2, "a")]


# Names.


@pytest.mark.parametrize(
    "name",
    [
        'a"b',
        "it's",
        "select",
        "é 東京",
        "{c}",
        "a.b",
        "$1",
        "%s",
        "\\",
        "filename",
        "key",
        "number",
    ],
)
def test_a_column_may_have_any_name(name):
    row = {"thing_id": 1, name: "x"}
    with queried(THING, contract(name, "text"), {FIRST: lines(row)}) as duck:
        found = duck.sql("FROM thing")
        assert (found.columns, found.fetchall()) == (["thing_id", name], [(1, "x")])


@pytest.mark.parametrize("name", ["_key", "_Deleted", "THING_ID"])
def test_two_columns_of_one_name_are_refused(name, tmp_path):
    with pytest.raises(ConfigError, match=rf"'thing' can't be queried because .* {name}"):
        create_views(THING, contract(name, "text"), tmp_path)


def test_the_folder_may_have_a_quote_in_its_name(tmp_path, monkeypatch):
    folder = tmp_path / "it's"
    folder.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(folder))
    with queried(THING, CONTRACT, {FIRST: lines({"thing_id": 1, "name": "a"})}) as duck:
        assert duck.sql("SELECT name, _key FROM thing_history").fetchall() == [("a", FIRST)]


# Types.


TYPES = [
    ("smallint", "integer", "SMALLINT"),
    ("integer", ["integer", "null"], "INTEGER"),
    ("bigint", "integer", "BIGINT"),
    ("numeric(10,2)", "number", "DECIMAL(10,2)"),
    ("numeric(38,0)", "number", "DECIMAL(38,0)"),
    ("numeric(40,2)", "number", "DOUBLE"),
    ("numeric(2,4)", "number", "DOUBLE"),
    ("numeric(4,-2)", "number", "DOUBLE"),
    ("numeric", "number", "DOUBLE"),
    ("real", "number", "FLOAT"),
    ("double precision", "number", "DOUBLE"),
    ("boolean", "boolean", "BOOLEAN"),
    ("date", "string", "DATE"),
    ("time(3) without time zone", "string", "TIME"),
    ("time with time zone", "string", "VARCHAR"),
    ("timestamp(3) without time zone", "string", "TIMESTAMP"),
    ("timestamp with time zone", "string", "TIMESTAMPTZ"),
    ("character varying(3)", "string", "VARCHAR"),
    ('"PaymentTypeName"', "string", "VARCHAR"),
    ("interval", "string", "VARCHAR"),
    ("uuid", "string", "UUID"),
    ("bytea", "string", "BLOB"),
    ("jsonb", ["object", "array", "string", "number", "boolean"], "JSON"),
    ("integer[]", "array", "JSON"),
    ("numeric(10,2)[]", ["array", "null"], "JSON"),
    ("a_domain", "integer", "BIGINT"),
    ("a_domain", ["number", "null"], "DOUBLE"),
    ("a_domain", ["string", "number"], "JSON"),
]


@pytest.mark.parametrize(("declared", "kinds", "expected"), TYPES)
def test_a_column_has_the_type_that_its_contract_says(declared, kinds, expected):
    assert duckdb_type({"x-postgresql-type": declared, "type": kinds}) == expected


@pytest.mark.parametrize(("declared", "kinds"), [(declared, kinds) for declared, kinds, _ in TYPES])
def test_what_is_hashed_is_text_whatever_it_was(declared, kinds):
    column = {"x-postgresql-type": declared, "type": kinds, "x-land": "hash"}
    hashes = ["0" * 63 + "1", "1e" + "2" * 62, None]
    rows = [{"thing_id": number, "value": text} for number, text in enumerate(hashes)]
    objects = {FIRST: lines(*rows), change_key(1): lines({"thing_id": 2, "value": "f" * 64})}
    with queried(THING, CONTRACT | {"value": column}, objects) as duck:
        found = duck.sql("SELECT value FROM thing ORDER BY thing_id")
        assert [*map(str, found.types)] == ["VARCHAR"]
        assert found.fetchall() == [(hashes[0],), (hashes[1],), ("f" * 64,)]
        assert duck.sql("SELECT count(*) FROM thing_history WHERE value IS NULL").fetchall() == [
            (1,)
        ]


def test_what_is_dropped_is_in_no_view_even_if_it_landed_before():
    names = {"name": CONTRACT["name"] | {"x-land": "drop"}}
    objects = {FIRST: lines({"thing_id": 1, "name": "Ada"}), change_key(1): lines({"thing_id": 2})}
    with queried(THING, CONTRACT | names, objects) as duck:
        assert duck.sql("FROM thing ORDER BY 1").fetchall() == [(1,), (2,)]
        history = duck.sql("FROM thing_history")
        assert history.columns == ["thing_id", "_deleted", "_key", "_stream", "_number"]
        assert "Ada" not in str(history.fetchall())


def test_a_column_called_like_a_tombstone_is_refused_even_if_it_is_dropped(tmp_path):
    """The lines from before have it, and would delete rows."""
    deleted = {"_deleted": {"x-postgresql-type": "boolean", "type": "boolean", "x-land": "drop"}}
    with pytest.raises(ConfigError, match="because of the names _deleted"):
        create_views(THING, CONTRACT | deleted, tmp_path)


def test_the_guide_says_which_types_there_are():
    said = section(page("docs/consuming.md"), "Types")
    rows = [line.strip("|").split("|") for line in said.splitlines() if line.startswith("| `")]
    assert len(rows) == 10
    for declared, shown, _ in rows:
        [expected] = re.findall("`(.+)`", shown) or [None]
        for name in re.findall("`([^`]+)`", declared):
            found = duckdb_type({"x-postgresql-type": name, "type": "string"})
            assert found == (expected or name.upper()), name


@pytest.mark.parametrize("table", TABLES)
def test_each_table_of_totesys_can_be_queried(table):
    known = load(Table(table)) or {}
    with queried(Table(table), known, {}) as duck:
        found = duck.sql(f"FROM {table}")
    assert found.columns == list(known)
    assert set(map(str, found.types)) <= {
        *("INTEGER", "VARCHAR", "BOOLEAN", "DECIMAL(10,2)", "TIMESTAMP")
    }


def read(declared, kind, *texts):
    """Return how DuckDB spells values that landed as this JSON; None if they are an error."""
    column, name = contract("it's", declared, kind), "it's"
    landed = enumerate(texts, 1)
    body = "".join(f'{{"thing_id":{number},"{name}":{text}}}\n' for number, text in landed)
    with queried(THING, column, {FIRST: body.encode()}) as duck:
        assert duck.sql("SELECT count(thing_id) FROM thing").fetchall() == [(len(texts),)]
        try:
            found = duck.sql("""SELECT CAST("it's" AS VARCHAR) FROM thing ORDER BY thing_id""")
            return [text for [text] in found.fetchall()]
        except duckdb.InvalidInputException as error:
            failure = str(error)
    said = f"thing.it's has a value that {duckdb_type(column[name])} does not hold exactly. "
    assert said in failure
    assert failure.endswith(f"It is in {FIRST}")
    return None


@settings(max_examples=20, deadline=None)
@given(st.data(), st.integers(1, 38))
def test_a_decimal_is_exact_or_an_error(data, digits):
    scale = data.draw(st.integers(0, min(digits, 20)))
    most = 10**digits - 1
    integers = st.integers(-most, most) | st.integers(0, digits).map(lambda n: 10**n - 1)
    values = data.draw(st.lists(integers.map(lambda value: Decimal(f"{value}E-{scale}"))))
    exact = [value for value in values if abs(value) < Decimal(10) ** (15 - scale)]
    declared = f"numeric({digits},{scale})"
    found = read(declared, "number", *(f"{value:f}" for value in exact))
    assert [Decimal(text) for text in found] == exact
    assert all(Decimal(text).as_tuple().exponent == -scale for text in found)
    for value in set(values) - set(exact):
        assert read(declared, "number", f"{value:f}") is None
        break


@settings(max_examples=5, deadline=None)
@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
@example([2**63 - 1, -(2**63), 2**53 + 1])
def test_a_bigint_is_exact(values):
    texts = [*map(str, values)]
    assert read("bigint", "integer", *texts) == texts


@pytest.mark.parametrize(
    ("declared", "landed", "expected"),
    [
        ("numeric(10,2)", "3.10", "3.10"),
        ("numeric(5,5)", "0.00001", ".00001"),
        ("numeric(5,5)", "0.000001", None),
        ("numeric(10,2)", "1.005", None),  # the column has more decimals than its contract says
        ("numeric(10,2)", '"NaN"', None),
        ("numeric(10,2)", "123456789.00", None),
        ("numeric", '"NaN"', "nan"),
        ("numeric", '"-Infinity"', "-inf"),
        ("integer", "1.5", None),
        ("integer", "2147483648", None),
        ("integer", '"abc"', None),
        ("bigint", "9223372036854775808", None),
        ("double precision", '"Infinity"', "inf"),
        ("real", "0.1", "0.1"),
        ("boolean", "true", "true"),
        ("boolean", '"x"', None),
        ("date", '"2022-11-07"', "2022-11-07"),
        ("date", '"infinity"', "infinity"),
        ("date", '"-infinity"', "-infinity"),
        ("date", '"10000-01-01"', "10000-01-01"),
        ("date", '"0044-03-15 BC"', None),  # DuckDB would read the year 44
        ("date", '"2022-11-07 x"', None),
        ("time", '"24:00:00"', "24:00:00"),
        ("timestamp", '"2022-11-03T14:20:52.186000"', "2022-11-03 14:20:52.186"),
        ("timestamp", '"infinity"', "infinity"),
        ("timestamp", '"10000-01-01 00:00:00"', "10000-01-01 00:00:00"),
        ("timestamp", '"0044-03-15 12:00:00 BC"', None),
        ("timestamp", '"294276-12-31 23:59:59"', None),
        ("timestamptz", '"2022-11-03T14:20:52.186000+00:00"', "2022-11-03 14:20:52.186+00"),
        ("timestamptz", '"0044-03-15 12:00:00+00 BC"', None),
        ("uuid", '"5f0c8a52-2f4b-4a6e-9a55-0d2c6a1f7b10"', "5f0c8a52-2f4b-4a6e-9a55-0d2c6a1f7b10"),
        ("uuid", '"x"', None),
        ("bytea", '"3q2+7w=="', "\\xDE\\xAD\\xBE\\xEF"),
        ("bytea", '"!"', None),
        ("text", '"a\\"b\\u2028"', 'a"b\u2028'),
        ("jsonb", '{"a": [1.10, null]}', '{"a":[1.1,null]}'),
        ("jsonb", '"text"', '"text"'),
        ("integer[]", "[1, 2]", "[1,2]"),
    ],
)
def test_a_value_is_the_same_value_or_an_error(declared, landed, expected):
    names = {
        "time": "time without time zone",
        "timestamp": "timestamp without time zone",
        "timestamptz": "timestamp with time zone",
    }
    kind = {"numeric": "number", "[": "array", "jsonb": "object"}
    json_type = next((kind[word] for word in kind if word in declared), "string")
    assert read(names.get(declared, declared), json_type, landed) == (
        None if expected is None else [expected]
    )


@pytest.mark.parametrize("landed", ["null", '"null"'])
def test_null_is_no_text(landed):
    assert read("text", "string", landed) == [json.loads(landed)]


def test_no_name_is_needed_to_be_plain():
    """Quotes, and whatever else is printable, stay within the names and texts of the SQL."""
    name = string.punctuation
    with queried(THING, contract(name, "integer", "integer"), {FIRST: b'{"thing_id":1}\n'}) as duck:
        assert duck.sql("FROM thing").fetchall() == [(1, None)]
