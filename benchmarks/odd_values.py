"""Values that are easily written wrong, and which of them a racer writes right.

Each type has a table of its own, so that a racer that can't read one can still show the others.
What is right is what the database says, as text; `benchmarks.spelling` knows other spellings.
"""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from benchmarks.spelling import is_same, parse
from benchmarks.stage import DATABASE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from benchmarks.racers import Contender
    from local.totesys.database import Server

    type Answers = dict[int, Any]  # what stands for a value, by the id of its row

# As SQL casts them to the type; a NULL follows in each table.
ODD: Final[Mapping[str, tuple[str, ...]]] = {
    "numeric": (
        *("NaN", "Infinity", "-Infinity", "3.10", "0.00", "-0.000000000000000000000000000001"),
        *("12345678901234567890.1234567890", "123456789012345678901234567890"),
    ),
    "numeric(10,2)": ("3.10", "0.07", "99999999.99"),
    "double precision": ("NaN", "Infinity", "-Infinity", "0.1", "1e300", "5e-324", "-0"),
    "real": ("NaN", "0.1", "3.4028235e38"),
    "bigint": ("9007199254740993", "9223372036854775807", "-9223372036854775808"),
    "boolean": ("true", "false"),
    "timestamp": (
        *("infinity", "-infinity", "0044-03-15 12:00 BC", "0001-01-01", "10000-01-01"),
        *("2022-11-03 14:20:52.186", "2022-11-03 14:20:52.186001", "9999-12-31 23:59:59.999999"),
    ),
    "timestamptz": ("infinity", "2022-11-03 14:20:52.186001+05:30", "0044-03-15 12:00+00 BC"),
    "date": ("infinity", "0044-03-15 BC", "2022-11-07"),
    "time": ("24:00:00", "00:00:00", "14:20:52.186001"),
    "interval": ("1 mon 2 days 03:04:05.000006", "-1 days +02:03:00", "1 mon", "30 days"),
    "text": (
        *("", " padded ", 'say "hi"', "back\\slash", "\\N", "null", "tab\there", "\x01", "é"),
        *("line\nbreak", "line\r\nbreak", "\u2028", "\x85", "😀", "{}"),
    ),
    "bytea": (r"\x", r"\xdeadbeef", r"\x00ff0a5c"),
    "json": ('{"price": 3.10,\n "id": 9007199254740993}',),
    "jsonb": (
        *("12345678901234567890.123456789012345", "3.10", '"text"', "[]"),
        '{"a": [1, {"b": null}], "c": "\\u2028"}',
        '{"id": 9007199254740993, "quote": "\\"\\\\"}',
    ),
    "integer[]": ("{1,NULL,3}", "{}", "{{1,2},{3,4}}"),
    "numeric[]": ("{3.10,NaN}", "{12345678901234567890.1234567890}"),
    "text[]": ('{"a,b","say \\"hi\\"",NULL,"NULL"}', '{"line\nbreak"}'),
    "money": ("1234.50", "-0.07", "92233720368547758.07"),
    "uuid": ("5f0c8a52-2f4b-4a6e-9a55-0d2c6a1f7b10",),
    "inet": ("192.168.0.1/24", "::1"),
}  # fmt: skip

_MOST_CHARACTERS = 160  # of an error


class Verdict(NamedTuple):
    """How a racer wrote the odd values.

    Attributes:
        values: how many there are.
        wrong: how many of a type are wrong or missing, by type.
        failed: what was said, where nothing of a type was written.
    """

    values: int
    wrong: dict[str, int]
    failed: dict[str, str]


def create(server: Server) -> None:
    """Make a table of each type."""
    with closing(server.connect(DATABASE)) as connection:
        for type_, values in ODD.items():
            table = name_of(type_)
            connection.run(f"CREATE TABLE {table} ({table}_id serial PRIMARY KEY, value {type_})")
            for value in (*values, None):
                insert = (
                    f"INSERT INTO {table} (value) VALUES (CAST(CAST(:value AS text) AS {type_}))"
                )
                connection.run(insert, value=value)


def judge(contender: Contender, server: Server) -> Verdict:
    """Let it write each table, and compare what it wrote with what the database says."""
    wrong: Counter[str] = Counter()
    failed = {}
    with tempfile.TemporaryDirectory() as folder, contender.start(server) as racer:
        for type_ in ODD:
            table, file = name_of(type_), Path(folder) / f"{name_of(type_)}.jsonl"
            file.touch()
            request = {"table": table, "id_column": f"{table}_id", "file": str(file)}
            answer = racer.ask(request)
            if "error" in answer:
                failed[type_] = " ".join(answer["error"].split())[:_MOST_CHARACTERS]
            found = dict(_read(file, f"{table}_id"))
            expected = truth(server, type_)
            wrong[type_] = sum(
                not (row_id in found and is_same(type_, said, found[row_id]))
                for row_id, said in expected.items()
            )
    values = sum(len(each) + 1 for each in ODD.values())
    return Verdict(values, {type_: count for type_, count in wrong.items() if count}, failed)


def truth(server: Server, type_: str) -> Answers:
    """Return the text of each value, of an array that of each element, and None for NULL."""
    table = name_of(type_)
    text = "to_json(value::text[])" if type_.endswith("[]") else "value::text"
    with closing(server.connect(DATABASE)) as connection:
        found = connection.run(f"SELECT {table}_id, {text} FROM {table} ORDER BY 1")
    return {row_id: said for row_id, said in found or ()}


def name_of(type_: str) -> str:
    """Return the name of the table of a type."""
    return "odd_" + "_".join(re.findall(r"\w+", type_.replace("[]", " array")))


def _read(file: Path, id_column: str) -> Iterator[tuple[int, Any]]:
    """Yield id and value of each line that is JSON; a line that is not holds no value."""
    for line in file.read_bytes().split(b"\n"):
        try:
            row = parse(line)
            yield int(row[id_column]), row.get("value")  # without the member it is null
        except (ValueError, KeyError, TypeError):
            continue
