"""PostgreSQL's types, and hypothesis strategies for their values, for tables and for rows.

Values are made as the text that the server casts to the type, and what has to land is asked of the
server, too: no code of ours decides on what is right.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC
from typing import TYPE_CHECKING, Any, Literal

from hypothesis import strategies as st

from tests.helpers.servers import infinities, version

if TYPE_CHECKING:
    from decimal import Decimal

    from hypothesis.strategies import SearchStrategy

SCHEMA = r"""
CREATE TYPE "mo od" AS ENUM (
    '', 'glad', 'NULL', 'it''s', 'a "b"', 'a,b', E'new\nline', '\', '😀', E'\x1e', E'\x1f'
);
CREATE TYPE json_ AS ENUM ('no', 'json');
CREATE TYPE pair AS (number numeric, "no te" text, moment timestamptz, flags boolean[]);
CREATE TYPE textrange AS RANGE (subtype = text);
CREATE TYPE public.bool AS ENUM ('f', 'n', 'no');
CREATE TYPE public.json AS (a integer, b text);
CREATE TYPE public.bytea AS RANGE (subtype = integer);
CREATE DOMAIN amount_ AS integer CHECK (value > -1000000000);
CREATE DOMAIN "small count" AS amount_;
CREATE DOMAIN price AS numeric(10,2);
CREATE DOMAIN label AS text;
CREATE DOMAIN code AS char(4);
CREATE DOMAIN instant AS timestamptz;
CREATE DOMAIN mood_ AS "mo od";
CREATE DOMAIN counts AS amount_[];
CREATE DOMAIN document AS jsonb;
"""

_NASTY_TEXTS = [
    *("", " ", "  ", "\t", "\n", "\r\n", "a\nb", '"', "'", "\\", "\\N", "\\n", "NULL", "null"),
    *("nan", "NaN", "{}", "{c}", "%", "%s", "%%", ",", "a,b", '", "', "[1]", "é", "ÿ", "😀"),
    *("\x01", "\x1e", "\x1f", "a\x1fb", "\x7f", "\x7f\x7f", "\x85", "\xa0", "\u2028", "\u2029"),
    *("\ufeff", "\ufffe", "\U0010ffff", " padded ", "e\u0301", "</script>", "\\u0041"),
]
_characters = st.characters(exclude_categories=["Cs"], exclude_characters="\0")
texts = st.sampled_from(_NASTY_TEXTS) | st.text(_characters, max_size=20)

_ODD_NAMES = [
    *("order", "user", "select", "null", "with space", 'quo"te', "'", "%", "%s", "%%", "{}", "{c}"),
    *("{0}", "{rows}", "new\nline", "tab\t", "\\", "\\x01", "é", "😀", "t", "id", "cut", "batch"),
    *(
        "gap",
        "first",
        "last",
        "count",
        "measured",
        "bytes_before",
        "asked",
        "family",
        "seen",
        "date",
        "Upper",
        "\u2028",
        ":x",
    ),
]
_SYSTEM_COLUMNS = {"tableoid", "xmin", "cmin", "xmax", "cmax", "ctid"}


def _fits(name: str) -> bool:
    return 0 < len(name.encode()) <= 55 and name not in _SYSTEM_COLUMNS


names = st.sampled_from(_ODD_NAMES) | st.text(_characters, min_size=1, max_size=20).filter(_fits)


@dataclass(frozen=True)
class PgType:
    """A type a column can have.

    Attributes:
        name: in SQL.
        values: texts that the server can cast to it.
        lands_as: what its values are in a line: a text, a number, a number that a float holds (only
            its value counts), or JSON.
        oracle: SQL that gives, of a column {c}, the text of what has to land.
    """

    name: str
    values: SearchStrategy[str]
    lands_as: Literal["text", "number", "float", "json"] = "text"
    oracle: str = "{c}::text"

    def __repr__(self) -> str:
        return self.name


def _number(low: int, high: int) -> SearchStrategy[str]:
    return (st.integers(low, high) | st.sampled_from([low, high, 0])).map(str)


def _decimal_text(value: Decimal) -> str:
    return f"{value:f}"


def _decimals(digits: int, places: int) -> SearchStrategy[str]:
    most = 10 ** (digits - places) - 1
    return st.decimals(-most, most, places=places).map(_decimal_text)


_numerics = (
    st.sampled_from(["NaN", *infinities(14), "0", "-0.00", "3.10", "1e-30", "1e300", "007"])
    | st.decimals(allow_nan=False, allow_infinity=False).map(_decimal_text)
    | st.builds("{}.{}".format, st.integers(-(10**60), 10**60), st.integers(0, 10**40))
)

_dates = (
    st.dates().map(str)
    | st.sampled_from(["infinity", "-infinity", "epoch", "0001-01-01", "9999-12-31", "10000-01-01"])
    | st.builds(
        "{:04}-{:02}-{:02} BC".format, st.integers(1, 4712), st.integers(1, 12), st.just(28)
    )
    | st.builds("{}-{:02}-28".format, st.integers(10_000, 294_275), st.integers(1, 12))
    | st.just("0001-02-29 BC")
)
_times = st.times().map(str) | st.sampled_from(["24:00:00", "00:00:00", "23:59:59.999999"])
_zones = st.sampled_from(["+00", "-12:30", "+14", "+15:59:59", "-15:59:59"])
_timestamps = (
    st.datetimes().map(str)
    | st.sampled_from(
        ["infinity", "-infinity", "0001-01-01 00:00:00", "9999-12-31 23:59:59.999999"]
    )
    | st.sampled_from(["10000-01-01", "294276-12-31 23:59:59.999999", "4713-11-24 00:00:00 BC"])
    | st.builds(
        lambda date, time: f"{date.removesuffix(' BC')} {time}{' BC' * date.endswith('BC')}",
        _dates.filter(lambda date: date[-1].isdigit() or date.endswith("BC")),
        st.times().map(str),
    )
)
_instants = _timestamps | st.datetimes(timezones=st.just(UTC)).map(str)
_intervals = st.sampled_from(
    [*infinities(17), "0", "-1 year -2 mons +3 days -04:05:06.789"]
) | st.builds(
    "{} mons {} days {} us".format,
    st.integers(-(10**6), 10**6),
    st.integers(-(10**6), 10**6),
    # Before 15 the number of a field had 32 bits.
    st.integers(-(10**15), 10**15) if version() >= 15 else st.integers(-(10**9), 10**9),
)


def _json_values(texts: SearchStrategy[str]) -> SearchStrategy[Any]:
    leaves = st.none() | st.booleans() | st.integers() | texts
    return st.recursive(
        leaves,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    )


_jsonbs = st.builds(
    lambda value, ascii: json.dumps(value, ensure_ascii=ascii), _json_values(texts), st.booleans()
) | st.sampled_from(["1.10", "-0", "0.0", "1e400", '{"a": 3.10, "b": [1e-7]}', "null", '"null"'])
_jsons = (
    _jsonbs
    | st.builds(lambda value: json.dumps(value, indent=1), _json_values(texts))
    | st.sampled_from(
        [
            '{"a": 1, "a": 1.10}',
            "[1,\n\r\n\t2 ]",
            ' "x" ',
            '"\\u2028 \u2028 \\ud83d\\ude00 \\u0000"',
            "1E+2",
            '{"\n": 1}'.replace("\n", "\\n"),
        ]
    )
)


def _range(bounds: SearchStrategy[str]) -> SearchStrategy[str]:
    def write(ends: list[str], low: str, high: str, left: bool, right: bool) -> str:
        return f"{low}{ends[0] * left},{ends[1] * right}{high}"

    ordered = st.tuples(bounds, bounds).map(sorted)
    brackets = st.sampled_from("[("), st.sampled_from("])")
    return st.just("empty") | st.builds(write, ordered, *brackets, st.booleans(), st.booleans())


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _composite(*fields: SearchStrategy[str]) -> SearchStrategy[str]:
    values = st.tuples(*(st.none() | field for field in fields))
    return values.map(lambda row: f"({','.join('' if v is None else _quoted(v) for v in row)})")


def _array_text(items: list[Any]) -> str:
    def write(item: Any) -> str:
        if isinstance(item, list):
            return _array_text(item)
        return "NULL" if item is None else _quoted(item)

    return f"{{{','.join(map(write, items))}}}"


def _bounded(items: list[Any], low: int) -> str:
    nested = isinstance(items[0], list)
    second = f"[7:{6 + len(items[0])}]" if nested else ""
    return f"[{low}:{low + len(items) - 1}]{second}={_array_text(items)}"


def array_of(element: PgType) -> PgType:
    """Return the type of arrays: of one or two dimensions, with NULLs, with bounds of their own."""
    item = st.none() | element.values
    lists = st.lists(item, min_size=1, max_size=4)
    tables = st.integers(1, 3).flatmap(
        lambda width: st.lists(
            st.lists(item, min_size=width, max_size=width), min_size=1, max_size=3
        )
    )
    values = (
        st.just("{}")
        | (lists | tables).map(_array_text)
        | st.builds(_bounded, lists | tables, st.integers(-3, 3))
    )
    return PgType(f"{element.name}[]", values, "json", "to_json({c})::text")


def _moment(suffix: str, local: str) -> str:
    """Return the oracle of a timestamp: six digits, as far as a year of four digits can hold it."""
    years = "{c} >= '0001-01-01 00:00:00+00' AND {c} < '10000-01-01 00:00:00+00'"
    form = f"""to_char({local}, 'YYYY-MM-DD"T"HH24:MI:SS.US') || '{suffix}'"""
    return f"CASE WHEN {years} THEN {form} ELSE {{c}}::text END"


_TIMESTAMP = PgType("timestamp", _timestamps, oracle=_moment("", "{c}"))
_INSTANT_ORACLE = _moment("+00:00", "{c} AT TIME ZONE 'UTC'")
_AS_JSON = "to_json({c}) #>> '{{}}'"  # the text of a char(n) has its blanks there
_INTEGER = PgType("integer", _number(-(2**31), 2**31 - 1), "number")
_counts = _number(-999_999_999, 2**31 - 1)
_floats = st.floats().map(str)
_enums = st.sampled_from(
    ["", "glad", "NULL", "it's", 'a "b"', "a,b", "new\nline", "\\", "😀", "\x1e", "\x1f"]
)
_composites = _composite(_numerics, texts, _instants, st.sampled_from(["{t,f,NULL}", "{}"]))
_addresses = st.builds(
    "{}/{}".format,
    st.ip_addresses(v=4).map(str),
    st.integers(0, 32),
) | st.builds("{}/{}".format, st.ip_addresses(v=6).map(str), st.integers(0, 128))
_networks = st.sampled_from(
    ["10.1.2.0/24", "10/8", "0.0.0.0/0", "::/0", "2001:db8::/32", "1.2.3.4"]
)
_macs = st.binary(min_size=6, max_size=6).map(bytes.hex)
_int_ranges = _range(st.integers(100, 999).map(str))
_bits = st.text("01", max_size=12)

SIMPLE_TYPES = [
    PgType("smallint", _number(-(2**15), 2**15 - 1), "number"),
    _INTEGER,
    PgType("bigint", _number(-(2**63), 2**63 - 1), "number"),
    PgType("numeric", _numerics, "number"),
    PgType("numeric(10,2)", _decimals(10, 2), "number"),
    PgType("numeric(40,20)", _decimals(40, 20), "number"),
    PgType("real", st.floats(width=32).map(str), "float"),
    PgType("double precision", _floats, "float"),
    PgType("boolean", st.sampled_from(["true", "false"]), "json"),
    PgType("text", texts),
    PgType("character varying", texts),
    PgType("character varying(3)", texts),
    PgType("character(5)", texts, oracle=_AS_JSON),
    PgType('"char"', st.sampled_from(["a", "", "\\", '"'])),
    PgType("name", texts),
    PgType("date", _dates),
    PgType("time", _times),
    PgType("time(2)", _times),
    PgType("time with time zone", st.builds("{}{}".format, _times, _zones)),
    _TIMESTAMP,
    PgType("timestamp(3)", st.datetimes().map(str), oracle=_TIMESTAMP.oracle),
    PgType("timestamp with time zone", _instants, oracle=_INSTANT_ORACLE),
    PgType("interval", _intervals),
    PgType("uuid", st.uuids().map(str)),
    PgType('"mo od"', _enums),
    PgType("json_", st.sampled_from(["no", "json"])),
    PgType("public.bool", st.sampled_from(["f", "n", "no"])),
    PgType("public.json", _composite(_counts, texts)),
    PgType("public.bytea", _range(st.integers(100, 999).map(str))),
    PgType("json", _jsons, "json"),
    PgType("jsonb", _jsonbs.filter(lambda text: "u0000" not in text), "json"),
    PgType(
        "bytea",
        st.binary().map(lambda b: f"\\x{b.hex()}"),
        oracle="translate(encode({c}, 'base64'), E'\\n', '')",
    ),
    PgType("inet", _addresses),
    PgType("cidr", _networks),
    PgType("macaddr", _macs),
    PgType("macaddr8", _macs),
    PgType("int4range", _int_ranges),
    PgType("int8range", _int_ranges),
    PgType("numrange", _range(st.sampled_from(["1.10", "2.20", "3.0"]))),
    PgType("daterange", _range(st.dates().map(str))),
    PgType("tsrange", _range(st.datetimes().map(lambda moment: _quoted(str(moment))))),
    PgType("tstzrange", _range(st.datetimes().map(lambda moment: _quoted(str(moment))))),
    PgType("textrange", _range(st.sampled_from(['"a,b"', '"c ""d"""', "e"]))),
    *[PgType("int4multirange", st.sampled_from(["{}", "{[1,3),[5,9)}", "{(,)}"]))]
    * (version() >= 14),
    PgType("pair", _composites),
    PgType("amount_", _counts, "number"),
    PgType('"small count"', _counts, "number"),
    PgType("price", _decimals(10, 2), "number"),
    PgType("label", texts),
    PgType("code", st.sampled_from(["", " ", "a", "ab  ", "abcd"]), oracle=_AS_JSON),
    PgType("instant", _instants, oracle=_INSTANT_ORACLE),
    PgType("mood_", _enums),
    PgType(
        "counts", st.sampled_from(["{}", "{1,NULL,2}", "[3:4]={5,6}"]), "json", "to_json({c})::text"
    ),
    PgType("document", st.sampled_from(['{"a": 3.10}', "[]", "null"]), "json"),
    PgType("money", _decimals(12, 2)),
    PgType("bit varying", _bits),
    PgType("bit(3)", st.text("01", min_size=3, max_size=3)),
    PgType("oid", _number(0, 2**32 - 1)),
    PgType("point", st.builds("({},{})".format, _floats, _floats)),
    PgType("tsvector", st.sampled_from(["", "'it''s':1A 'b'", "a b c"])),
    PgType("pg_lsn", st.sampled_from(["0/0", "16/B374D848"])),
    PgType("int2vector", st.sampled_from(["", "1 2 -3"]), "json", "to_json({c})::text"),
]
"""Columns of them can have any nullability."""

_ARRAYS_OF = {
    *(
        "integer",
        "bigint",
        "numeric",
        "double precision",
        "real",
        "boolean",
        "text",
        "character(5)",
    ),
    *("date", "timestamp", "timestamp with time zone", "interval", "uuid", '"mo od"', "json"),
    *("jsonb", "bytea", "inet", "int4range", "pair", "price", "time with time zone", "money"),
}
TYPES = [*SIMPLE_TYPES, *(array_of(type_) for type_ in SIMPLE_TYPES if type_.name in _ARRAYS_OF)]
