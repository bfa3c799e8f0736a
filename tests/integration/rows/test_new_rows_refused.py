"""Sessions and sequences with which a read can't be exact: refused, or named in a warning."""

from __future__ import annotations

import subprocess
import tempfile
from contextlib import closing
from pathlib import Path

import pytest

from local.totesys.database import Server
from services.ingestion import get_table_data
from services.ingestion.new_rows import read_new_rows
from shared.errors import SourceError, SourceUnavailableError
from shared.postgres.reader import read_settled_rows
from shared.tables import Table
from tests.helpers.servers import only_in_the_wheel
from tests.helpers.writers.entries import SERIAL, Entries, ids

pytestmark = pytest.mark.thorough

WARNING = "Late rows of this table may be missed"


# --- where it reads from ---


def new(table, row_id, connection):
    return read_new_rows(Table(table), row_id, connection)


def settled(table, row_id, connection):
    return read_settled_rows(Table(table), row_id, 9, connection)


@pytest.mark.parametrize(
    "begin",
    [
        "BEGIN",
        "BEGIN ISOLATION LEVEL REPEATABLE READ",
        "BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY",
    ],
)
@pytest.mark.parametrize("read", [new, settled], ids=["new", "settled"])
def test_a_transaction_of_the_caller_is_refused(database, begin, read):
    entries = Entries(database)
    entries.add()
    entries.reader.run(begin)
    with pytest.raises(SourceError, match=r"can't be read exactly inside a transaction.*Commit"):
        read("entry", 0, entries.reader)
    entries.reader.run("COMMIT")
    assert ids(read("entry", 0, entries.reader)) == [1]


@pytest.mark.parametrize("length", [60, 61, 63])
def test_a_name_too_long_for_an_id_column_is_named(database, length):
    name = "t" * length
    database.connect().run(
        f"CREATE TABLE {name} ({name}_id serial); INSERT INTO {name} DEFAULT VALUES"
    )
    if length == 60:
        assert ids(new(name, 0, database.connect("reader"))) == [1]
        return
    with pytest.raises(SourceError, match=f"The name of '{name}' is too long.* 63 bytes"):
        new(name, 0, database.connect("reader"))


def test_a_failed_transaction_of_the_caller_is_refused(database):
    entries = Entries(database)
    session = entries.open()
    with pytest.raises(Exception, match="division by zero"):
        session.run("SELECT 1 / 0")
    with pytest.raises(SourceError, match="current transaction is aborted"):
        get_table_data("entry", 0, session)


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_a_stricter_isolation_level_without_a_transaction_is_fine(database, level):
    entries = Entries(database)
    late = entries.open("INSERT INTO entry (note) VALUES ('late')")
    entries.add()
    entries.reader.run(f"SET default_transaction_isolation = '{level}'")
    assert ids(entries.read()) == []
    late.run("COMMIT")
    assert ids(entries.read()) == [1, 2]


@only_in_the_wheel()
def test_a_standby_is_refused(database, server):
    entries = Entries(database)
    entries.add()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        backup = Path(folder, "standby")
        source = ("-h", server.host, "-p", str(server.port), "-U", "postgres")
        subprocess.run(
            [server.binary("pg_basebackup"), *source, "-D", backup, "-R", "-c", "fast"], check=True
        )
        with (
            Server.start(backup) as standby,
            closing(standby.connect(database.name, "reader")) as reader,
            pytest.raises(SourceError, match=r"can't be read exactly on a standby.*primary"),
        ):
            get_table_data("entry", 0, reader)


# --- where its ids come from ---

TABLE = "CREATE TABLE entry (entry_id integer, note text)"
DRAWN = "CREATE TABLE entry (entry_id integer DEFAULT nextval('ids'), note text)"


OUT_OF_ORDER = {
    "cache": ("CACHE 5", SERIAL, "ALTER SEQUENCE entry_entry_id_seq CACHE 5"),
    "cycle": ("cycles", SERIAL, "ALTER SEQUENCE entry_entry_id_seq CYCLE"),
    "descending": ("descends by 2", "CREATE SEQUENCE ids INCREMENT -2 START -1", DRAWN),
    "all of it": (
        "its sequence has CACHE 9: sessions draw ids in blocks; its sequence descends by 1; "
        "its sequence cycles",
        "CREATE SEQUENCE ids INCREMENT -1 CACHE 9 CYCLE",
        DRAWN,
    ),
    "identity": (
        "CACHE 2",
        "CREATE TABLE entry (entry_id integer GENERATED ALWAYS AS IDENTITY (CACHE 2), note text)",
    ),
    "not the one it owns": (
        "CACHE 7",
        SERIAL,
        "CREATE SEQUENCE ids CACHE 7",
        "ALTER TABLE entry ALTER entry_id SET DEFAULT nextval('ids')",
    ),
    "none": ("its ids are not drawn from a sequence", TABLE),
    "view": (
        "its ids are not drawn from a sequence",
        TABLE.replace("entry (", "kept ("),
        "CREATE VIEW entry AS SELECT * FROM kept",
    ),
}


@pytest.mark.parametrize("case", OUT_OF_ORDER.values(), ids=OUT_OF_ORDER.keys())
def test_ids_that_may_be_drawn_out_of_order_are_warned_of(database, log_lines, case):
    because, *schema = case
    entries = Entries(database, *schema)
    entries.read()
    [line] = log_lines()
    assert (line["level"], line["message"], line["table"]) == ("WARNING", WARNING, "entry")
    assert because in line["because"]


IN_ORDER = {
    "serial": (SERIAL,),
    "small": ("CREATE TABLE entry (entry_id smallserial, note text)",),
    "identity": (
        "CREATE TABLE entry (entry_id bigint GENERATED BY DEFAULT AS IDENTITY, note text)",
    ),
    "default": ("CREATE SEQUENCE ids", DRAWN),
    "steps of ten": ("CREATE SEQUENCE ids INCREMENT 10 START 7", DRAWN),
    "domain": (
        "CREATE DOMAIN key AS integer",
        "CREATE SEQUENCE ids",
        DRAWN.replace("integer", "key"),
    ),
    "partitioned": (
        "CREATE TABLE entry (entry_id serial, note text) PARTITION BY RANGE (entry_id)",
        "CREATE TABLE leaf PARTITION OF entry DEFAULT",
    ),
}


@pytest.mark.parametrize("schema", IN_ORDER.values(), ids=IN_ORDER.keys())
def test_ids_that_are_drawn_in_order_are_not(database, log_lines, schema):
    entries = Entries(database, *schema)
    first, second = entries.add(2)
    assert ids(entries.read()) == [first, second]
    assert log_lines() == []


# --- whose session it is ---


def test_a_session_that_spells_values_its_own_way_reads_the_same(database):
    entries = Entries(
        database,
        "CREATE TABLE entry (entry_id serial, note text,"
        " at timestamptz DEFAULT '2024-07-01 12:00Z', day date DEFAULT '2024-02-01',"
        " lasts interval DEFAULT '1 mon -2 days 03:04:05.6')",
    )
    entries.add()
    expected = entries.read().rows
    assert expected["lasts"].tolist() == ["1 mon -2 days +03:04:05.6"]
    session = entries.connect()
    for style in ("postgres_verbose", "iso_8601", "sql_standard"):
        session.run("SET TimeZone = 'America/New_York'")
        session.run("SET DateStyle = 'SQL, DMY'")
        session.run(f"SET IntervalStyle = '{style}'")
        assert get_table_data("entry", 0, session).equals(expected)


def test_a_column_that_comes_between_the_catalogue_and_the_rows_is_not_left_out(database):
    writer, reader = database.connect(), database.connect("reader")
    writer.run("CREATE TABLE thing (thing_id serial PRIMARY KEY)")
    writer.run("INSERT INTO thing DEFAULT VALUES")
    run = reader.run

    def altered_before(sql, *arguments, **options):
        if "string_agg" in sql:
            writer.run("ALTER TABLE thing ADD COLUMN name text DEFAULT 'a'")
        return run(sql, *arguments, **options)

    reader.run = altered_before
    with pytest.raises(SourceUnavailableError, match="'thing' was declared anew while it was read"):
        get_table_data("thing", 0, reader)
    reader.run = run
    assert get_table_data("thing", 0, reader)["name"].tolist() == ["a"]
