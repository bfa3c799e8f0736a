"""The line of a row says what PostgreSQL says, whatever the types, the values and the session."""

from __future__ import annotations

import hmac
import json
import uuid
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pg8000.native import identifier

from services.ingestion import get_table_data, ingest
from services.ingestion.new_rows import read_new_rows
from shared import tables as our
from shared.jsonlines import to_json_lines
from shared.personal import PersonalData
from shared.postgres import reader as reader_module
from shared.postgres import statement
from shared.postgres.credentials import Credentials
from shared.postgres.session import connect
from tests.helpers.oracle import landed
from tests.helpers.servers import infinities, since
from tests.helpers.writers.pg_tables import Column, Table, assert_lines_hold, tables
from tests.helpers.writers.pg_types import SCHEMA, TYPES

pytestmark = pytest.mark.thorough

SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.function_scoped_fixture]
SESSION = (
    "SET TimeZone = 'Asia/Kolkata'; SET DateStyle = 'SQL, DMY'; SET IntervalStyle = 'iso_8601';"
    "SET bytea_output = 'escape'; SET extra_float_digits = -15"
)


@pytest.fixture(scope="module")
def dbname(server):
    name = "values"
    server.create_database(name)
    with closing(server.connect(name)) as connection:
        connection.run(SCHEMA)
    yield name
    server.drop_database(name)


@pytest.fixture(scope="module")
def writer(server, dbname):
    with closing(server.connect(dbname)) as connection:
        yield connection


@pytest.fixture(scope="module")
def reader(server, dbname):
    with closing(server.connect(dbname, "reader")) as connection:
        yield connection


def check(table: Table, writer, reader, session: str = "") -> None:
    """Read a table at once and row by row, and hold its lines against the server."""
    table.create(writer)
    try:
        table.insert(writer)
        if session:
            reader.run(session)
        lines = to_json_lines(get_table_data(table.name, 0, reader))
        assert_lines_hold(lines, table, table.says(writer))
        ids = range(len(table.rows))
        alone = [to_json_lines(get_table_data(table.name, n, reader, 1)) for n in ids]
        assert b"".join(alone) == lines
    finally:
        table.drop(writer)


@pytest.mark.parametrize("type_", TYPES, ids=repr)
def test_every_type(type_, writer, reader):
    @settings(max_examples=2, database=None, suppress_health_check=SLOW)
    @given(st.lists(st.tuples(st.none() | type_.values), min_size=1, max_size=20), st.booleans())
    def test(rows, nullable):
        kept = rows if nullable else [row for row in rows if row[0] is not None]
        check(Table("one", [Column("value", type_, nullable)], kept), writer, reader)

    test()


# What chance finds on some days, on every day.
_MOMENTS = [
    *("0044-03-15 00:00:00.5 BC", "0044-03-15 BC", "0001-12-31 23:59:59.999999 BC"),
    *("4713-11-24 BC", "0001-01-01", "0999-01-01", "1969-12-31 23:59:59.999999", "2000-01-01"),
    *("9999-12-31 23:59:59.999999", "10000-01-01", "10000-01-01 00:00:00.100000"),
    *("294276-12-31 23:59:59.999999", "infinity", "-infinity"),
]
_FLOATS = ["NaN", "Infinity", "-Infinity", "-0", "0.1", "1e-45", "3.4028235e+38"]
_LINE_ENDS = [f"a{end}b" for end in "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"]
_SEPARATORS = [
    *("a\x1fb", "\x1f", "\x1e", "\x1e\x1f", "a\x7fb", "\x7f", "\x7f\x7f"),
    *(",", "a,b", '"', "\\", "", " a "),
]
_BYTES = [f"\\x{'fbff00' * length}" for length in (0, 1, 18, 19, 20, 33, 34, 1000)]
EDGES = {
    "bytea": [*_BYTES, f"\\x{'00' * 100}"],
    "real": _FLOATS,
    "double precision": [*_FLOATS, "5e-324", "1.7976931348623157e+308", "0.30000000000000004"],
    "numeric": ["NaN", *infinities(14), "0", "3.10", "1e20", "0.0000001", "-0.0000001"],
    "smallint": ["-32768", "32767", "-1", "0"],
    "bigint": ["-9223372036854775808", "9223372036854775807", "-1", "0", "9007199254740993"],
    "boolean": ["true", "false"],
    "timestamp": _MOMENTS,
    "timestamp with time zone": _MOMENTS,
    "date": ["0044-03-15 BC", "0001-01-01", "9999-12-31", "10000-01-01", "infinity", "-infinity"],
    "time": ["24:00:00", "00:00:00", "23:59:59.999999", "00:00:00.5"],
    "interval": [*infinities(17), "-1 year -2 mons +3 days -04:05:06.789"],
    "text": [*_LINE_ENDS, *_SEPARATORS],
    "character(5)": ["", "a", "a\x1fb", "a\u2028b"],
    '"mo od"': ["", "new\nline", "\\", "NULL", "\x1e", "\x1f"],
    "json": ["[1,\r2]", "[1,\r\n2]", '"a\u2028b"', '{"a": 1, "a": 1.10}', "1e400", "null"],
    "jsonb": ['"a\u2028b"', '"a\\r\\nb"', "1e400", "-0", "null", '{"b": 3.10}'],
    "text[]": ['{"a\u2028b","c\nd"}', '{NULL,"NULL"}', "{}", "[2:3]={x,y}"],
    "json[]": ['{"[1,\r2]"}'],
    "double precision[]": ["{NaN,Infinity,-0}"],
    "money": ["1234567.89", "-0.01"],
}


MOST_EDGES = max(map(len, EDGES.values()))


def of_edges(nullable):
    """Return a table of a column for each of these types, whose rows hold the edges in turn."""
    types = {type_.name: type_ for type_ in TYPES}
    columns = [Column(f"a {name}", types[name], nullable) for name in EDGES]
    values = [[*edges, *[None] * nullable] for edges in EDGES.values()]
    rows = [tuple(each[n % len(each)] for each in values) for n in range(MOST_EDGES + nullable)]
    return Table("edges", columns, rows)


@pytest.mark.parametrize("nullable", [False, True], ids=["not null", "nullable"])
def test_the_edges_of_types(nullable, writer, reader):
    check(of_edges(nullable), writer, reader)


def test_the_edges_of_types_in_a_session_that_spells_otherwise(writer, reader):
    check(of_edges(nullable=True), writer, reader, SESSION)


def test_the_edges_of_types_in_many_rows(writer, reader):
    """Many values, most of which are equal to others, are not rendered as a few are."""
    table = of_edges(nullable=False)
    few = len(table.rows)
    table.create(writer)
    try:
        table.insert(writer)
        listed = ", ".join(identifier(column.name) for column in table.columns)
        writer.run(
            f"INSERT INTO edges SELECT n * {few} + edges_id, {listed} "
            "FROM edges, generate_series(1, 60) AS n"
        )
        lines = to_json_lines(get_table_data("edges", 0, reader)).splitlines(keepends=True)
        assert_lines_hold(b"".join(lines[:few]), table, table.says(writer)[:few])
        values = [line.partition(b",")[2] for line in lines]
        assert values == values[:few] * 61
    finally:
        table.drop(writer)


@pytest.mark.parametrize("type_", ["text", "name", '"mo od"', "uuid"])
def test_nulls_among_repeated_values(type_, writer, reader):
    values = {"uuid": [f"{n}" * 32 for n in range(9)], '"mo od"': ["", "a,b", "NULL", "new\nline"]}
    some = [None, *values.get(type_, ["", "a", "\x1d", "\x1e\x1e", "'"])]
    rows = [(some[n % len(some)],) for n in range(1000)]
    column = Column("value", next(each for each in TYPES if each.name == type_), True)
    table = Table("repeated", [column], rows)
    table.create(writer)
    try:
        table.insert(writer)
        batch = read_new_rows(our.Table("repeated"), 0, reader, 10_000)
        assert_lines_hold(to_json_lines(batch.rows), table, table.says(writer))
        assert (batch.rows["value"].dtype == "category") == (type_ != "uuid")
    finally:
        table.drop(writer)


@pytest.mark.parametrize("separator", ["\x1f", "\x1e", "\x7f", ","], ids=ascii)
@pytest.mark.parametrize("name", ["text", "character varying", "name"])
def test_a_null_and_a_value_with_a_separator_are_not_two_values(name, separator, writer, reader):
    """Whoever splits at it finds as many values as there are rows."""
    type_ = next(type_ for type_ in TYPES if type_.name == name)
    rows = [(f"a{separator}b",), (None,), ("c",)]
    check(Table("one", [Column("value", type_, True)], rows), writer, reader)


@since(18)
def test_nor_are_they_where_a_constraint_has_yet_to_be_validated(server, writer, reader):
    """PostgreSQL 18 says `attnotnull` of a column that holds NULLs from before the constraint."""
    text = next(type_ for type_ in TYPES if type_.name == "text")
    table = Table("one", [Column("value", text, True)], [("a\x1fb",), (None,)])
    table.create(writer)
    try:
        table.insert(writer)
        writer.run("ALTER TABLE one ADD NOT NULL value NOT VALID")
        lines = to_json_lines(get_table_data("one", 0, reader))
        assert_lines_hold(lines, table, table.says(writer))
    finally:
        table.drop(writer)


@settings(max_examples=25, database=None, suppress_health_check=SLOW)
@given(tables())
@example(Table("cut", [], [()]))
def test_any_table(writer, reader, table):
    check(table, writer, reader)


@settings(max_examples=15, database=None, suppress_health_check=SLOW)
@given(tables())
def test_the_session_changes_nothing(writer, reader, table):
    check(table, writer, reader, SESSION)


@settings(max_examples=15, database=None, suppress_health_check=SLOW)
@given(tables(), st.sampled_from(["LATIN1", "WIN1252", "SQL_ASCII"]))
@example(Table("漢字", [Column("prüfung", TYPES[0], nullable=True)], [(None,)]), "LATIN1")
def test_nor_does_its_encoding(server, dbname, writer, table, encoding):
    with closing(server.connect(dbname, "reader")) as reader:
        check(table, writer, reader, f"SET client_encoding = '{encoding}'")


@pytest.fixture(params=["LATIN1", "WIN1252", "EUC_JP", "EUC_TW", "SQL_ASCII"])
def encoded(request, server):
    """The name of a database in another encoding than UTF-8."""
    name, encoding = f"in {request.param}", request.param
    with closing(server.connect()) as admin:
        admin.run(
            f"CREATE DATABASE {identifier(name)} TEMPLATE template0 "
            f"ENCODING '{encoding}' LOCALE 'C'"
        )
    yield name
    server.drop_database(name)


@pytest.mark.parametrize("nullable", [False, True], ids=["not null", "nullable"])
@pytest.mark.parametrize("odd", ["a\x1fb", "\x1e", "plain"], ids=ascii)
def test_nor_does_the_encoding_of_the_database(server, encoded, odd, nullable):
    """Texts that can't be told apart by a letter are cut by their lengths."""
    types = [each for each in TYPES if each.name in {"text", "character varying", "name"}]
    columns = [Column(f"a {type_.name}", type_, nullable) for type_ in types]
    texts = ["§§", odd, "", "§a", "abc", *[None] * nullable]  # which each of these encodings has
    table = Table("encoded", columns, [(text,) * len(types) for text in texts])
    credentials = Credentials.from_secret("", json.dumps(server.secret(encoded)))
    with (
        closing(server.connect(encoded)) as writer,
        closing(connect(credentials, Path(), 60)) as reader,
    ):
        writer.run("ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO reader")
        check(table, writer, reader)


@pytest.mark.parametrize(
    ("type_", "operator"),
    [
        ("varchar(9)", "varchar, RIGHTARG = int"),
        ("varchar(9)", "varchar, RIGHTARG = varchar"),
        ("label", "label, RIGHTARG = label"),
    ],
)
def test_nor_do_operators_and_functions_of_users(type_, operator, database):
    """They are found before PostgreSQL's own where they fit better."""
    arguments = operator.replace(" RIGHTARG =", "")
    writer, reader = database.connect(), database.connect("reader")
    for sql in (
        "CREATE DOMAIN label AS text",
        f"CREATE FUNCTION yes({arguments}) RETURNS boolean LANGUAGE sql AS 'SELECT true'",
        f"CREATE OPERATOR <> (LEFTARG = {operator}, FUNCTION = yes)",
        "CREATE FUNCTION octet_length(varchar) RETURNS int LANGUAGE sql AS 'SELECT 1'",
        f"CREATE TABLE thing (thing_id serial PRIMARY KEY, name {type_})",
        r"INSERT INTO thing (name) VALUES ('a'), (E'\x1e'), (NULL), ('')",
    ):
        writer.run(sql)
    assert get_table_data("thing", 0, reader, 10)["name"].tolist() == ["a", "\x1e", None, ""]


KEY = b"a key of the hashes, long enough"


def hash_of_landed(line: bytes) -> str | None:
    """Return the hash of the only value of a line, by what the line holds."""
    _, _, text = line.partition(b'{"v":')
    value = json.loads(text[:-1])
    if value is None:
        return None
    is_text = isinstance(value, str)
    octets = value.encode("utf-8", "surrogatepass") if is_text else text[:-1].strip()
    return hmac.new(KEY, octets, "sha256").hexdigest()


@settings(max_examples=25, database=None, suppress_health_check=SLOW)
@given(tables(), st.data())
def test_what_is_dropped_is_missing_what_is_hashed_is_a_hash_and_all_else_is_as_before(
    writer, reader, table, data
):
    names = sorted(column.name for column in table.columns)
    forms = {name: data.draw(st.sampled_from(["drop", "hash", "land"])) for name in names}
    dropped, hashed = (
        frozenset(name for name in names if forms[name] == form) for form in ("drop", "hash")
    )
    table.create(writer)
    try:
        table.insert(writer)
        plain = get_table_data(table.name, 0, reader)
        granted = [name for name in plain if name not in dropped]
        columns = ", ".join(map(identifier, granted))
        writer.run(f"REVOKE SELECT ON {identifier(table.name)} FROM reader")
        writer.run(f"GRANT SELECT ({columns}) ON {identifier(table.name)} TO reader")
        personal = PersonalData(dropped, hashed, KEY)
        found = read_new_rows(our.Table(table.name), 0, reader, personal=personal).rows
    finally:
        table.drop(writer)
    kept = [name for name in granted if name not in hashed]
    assert list(found) == granted
    assert to_json_lines(found[kept]) == to_json_lines(plain[kept])
    for name in hashed:
        lines = to_json_lines(plain[[name]].set_axis(["v"], axis=1)).split(b"\n")[:-1]
        assert found[name].tolist() == [hash_of_landed(line) for line in lines]


@settings(max_examples=3, database=None, suppress_health_check=SLOW)
@given(st.lists(st.tuples(*(st.none() | type_.values for type_ in TYPES)), min_size=1, max_size=3))
def test_a_run_lands_it_all(writer, reader, bucket, rows):
    columns = [Column(f"{number} {type_.name}", type_, True) for number, type_ in enumerate(TYPES)]
    table = Table(f"order {uuid.uuid4()}", columns, rows)
    table.create(writer)
    try:
        table.insert(writer)
        ingest([table.name], bucket.client, reader, bucket.name)
        [key] = landed.data_keys(bucket, table.name)
        lines = landed.body(bucket, key).encode()
        assert_lines_hold(lines, table, table.says(writer))
    finally:
        table.drop(writer)


def read_while_committing(table, reader, late_writer, limit):
    """Read a table in batches; its late writer commits at the first wait for it."""
    frames, more, last = [], True, 0
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("services.ingestion.writers.time.sleep", lambda _: late_writer.run("COMMIT"))
        while more:
            batch = read_new_rows(our.Table(table.name), last, reader, limit)
            frames.append(batch.rows)
            more, last = batch.more, max([last, *batch.ids.tolist()])
    return b"".join(map(to_json_lines, frames))


@pytest.fixture(scope="module")
def late_writer(server, dbname):
    with closing(server.connect(dbname)) as connection:
        yield connection


def check_late(table, late, writer, late_writer, reader, limit=None):
    """Let the rows with these ids commit while the others are read."""
    table.create(writer)
    try:
        late_writer.run("BEGIN")
        table.insert(late_writer, late)
        table.insert(writer, [n for n in range(1, len(table.rows) + 1) if n not in late])
        lines = read_while_committing(table, reader, late_writer, limit)
        assert_lines_hold(lines, table, table.says(writer))
    finally:
        late_writer.run("ROLLBACK")
        table.drop(writer)


@settings(max_examples=25, database=None, suppress_health_check=SLOW)
@given(tables(), st.data())
def test_rows_that_commit_late_are_as_exact(writer, late_writer, reader, table, data):
    ids = range(1, len(table.rows) + 1)
    late = data.draw(st.sets(st.sampled_from(ids[:-1]))) if len(ids) > 1 else set()
    limit = data.draw(st.none() | st.integers(1, 6))
    check_late(table, late, writer, late_writer, reader, limit)


@settings(max_examples=10, database=None, suppress_health_check=SLOW)
@given(st.integers(2, 9), st.data())
def test_nor_are_late_rows_lost_where_long_ones_end_a_batch(
    writer, late_writer, reader, rows, data
):
    late = data.draw(st.sets(st.integers(1, rows - 1)))
    text = next(type_ for type_ in TYPES if type_.name == "text")
    lengths = data.draw(st.lists(st.integers(0, 9000), min_size=rows, max_size=rows))
    values = [("".join(chr(33 + n * n * 7 % 9001) for n in range(size)),) for size in lengths]
    with pytest.MonkeyPatch.context() as patch:
        for module, name in ((reader_module, "BATCH_BYTES"), (statement, "STATEMENT_BYTES")):
            patch.setattr(module, name, 10_000)
        check_late(Table("long", [Column("note", text, False)], values), late,
                   writer, late_writer, reader, 50)  # fmt: skip
