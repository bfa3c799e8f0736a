"""Each statement proves that its read was exact, whatever a role, a pooler or a writer does."""

from __future__ import annotations

import re
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from services.ingestion import get_table_data
from services.reconciliation import reconcile
from shared.errors import SourceError, SourceUnavailableError
from shared.postgres.credentials import Credentials
from shared.postgres.session import connect, disconnect
from shared.postgres.survey import read_survey
from shared.tables import Table
from tests.helpers.faults.listening import listening
from tests.helpers.faults.pooler import Pooler
from tests.helpers.runs.place import Place
from tests.helpers.writers.entries import READ, Interleaved, wait_for

pytestmark = pytest.mark.thorough

ENTRY = "CREATE TABLE entry (entry_id serial PRIMARY KEY, note text)"
INSERT = "INSERT INTO entry (note) VALUES ('a'), ('b'), ('c')"


@pytest.fixture
def entry(database):
    """A session of the owner of a table with three rows."""
    session = database.connect()
    session.run(ENTRY)
    session.run(INSERT)
    return session


def let_reader(database, setting):
    with closing(database.connect()) as session:
        session.run(f'ALTER ROLE reader IN DATABASE "{database.name}" SET {setting}')


# --- rows that are hidden ---


@pytest.mark.parametrize("policy", ["", "(entry_id % 2 = 0)", "(true)"])
@pytest.mark.parametrize("partitioned", [False, True])
def test_a_table_with_row_level_security_is_refused(database, bucket, policy, partitioned):
    session = database.connect()
    session.run(f"{ENTRY}{' PARTITION BY RANGE (entry_id)' if partitioned else ''}")
    if partitioned:
        session.run("CREATE TABLE part PARTITION OF entry DEFAULT")
    session.run(INSERT)
    session.run("ALTER TABLE entry ENABLE ROW LEVEL SECURITY")
    if policy:
        session.run(f"CREATE POLICY hides ON entry TO reader USING {policy}")
    reader = database.connect("reader")
    for read in (
        lambda: get_table_data("entry", 0, reader),
        lambda: read_survey([Table("entry")], reader),
        lambda: reconcile("entry", bucket.client, reader, bucket.name, with_changes=False),
    ):
        with pytest.raises(SourceError, match=r"entry.*ALTER ROLE \.\.\. BYPASSRLS"):
            read()
    session.run("ALTER TABLE entry DISABLE ROW LEVEL SECURITY")
    assert get_table_data("entry", 0, reader)["note"].tolist() == ["a", "b", "c"]


# --- what commits while a read waits for it ---


def read_while(database, *statements):
    """Read with a session that waits for a transaction; return what is read."""
    reader, writer, other = database.connect("reader"), database.connect(), database.connect()
    [[pid]] = reader.run("SELECT pg_backend_pid()")
    writes = [lambda sql=sql: writer.run(sql) for sql in ("BEGIN", *statements)]
    session = Interleaved(reader, {READ: writes})
    with ThreadPoolExecutor(1) as pool:
        read = pool.submit(get_table_data, "entry", 0, session)
        wait_for(other, f"SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND pid = {pid}")
        writer.run("COMMIT")
        return read.result()


@pytest.mark.parametrize("isolation", ["read committed", "repeatable read", "serializable"])
def test_a_table_that_is_reloaded_while_the_read_waits_is_read_as_it_is_then(
    database, entry, isolation
):
    let_reader(database, f"default_transaction_isolation = '{isolation}'")
    rows = read_while(database, "TRUNCATE entry", INSERT)
    assert rows["entry_id"].tolist() == [4, 5, 6]


TYPES = ("float8", "text", "int4", "date", "timestamptz")


@pytest.mark.parametrize(
    "to", ["numeric", *(pytest.param(name, marks=pytest.mark.long) for name in TYPES)]
)
@pytest.mark.parametrize("of", ["numeric", *TYPES])
def test_a_column_that_gets_another_type_while_the_read_waits_is_read_again(
    database, entry, of, to
):
    if of == to:
        of = "bigint"
    value = "2024-02-01" if of in {"date", "timestamptz"} else "7"
    entry.run(f"ALTER TABLE entry ALTER note TYPE {of} USING '{value}'::{of}")
    new = "2031-05-06" if to in {"date", "timestamptz"} else "9"
    change = f"ALTER TABLE entry ALTER note TYPE {to} USING '{new}'::{to}"
    with pytest.raises(SourceUnavailableError, match="'entry' was declared anew while it was read"):
        read_while(database, change)
    read = get_table_data("entry", 0, database.connect("reader"))["note"]
    assert {str(value)[: len(new)] for value in read} == {new}


@pytest.mark.parametrize(
    "change",
    ["DROP note", "RENAME note TO remark", "ADD at date", "ALTER note TYPE varchar(3)"],
)
def test_a_table_that_is_declared_anew_while_the_read_waits_is_read_again(database, entry, change):
    with pytest.raises(SourceUnavailableError, match="'entry' was declared anew while it was read"):
        read_while(database, f"ALTER TABLE entry {change}")


# --- settings and backends that are not ours ---

STRANGE = (
    "quote_all_identifiers = on",
    "extra_float_digits = -15",
    "IntervalStyle = 'iso_8601'",
    "DateStyle = 'German'",
    "TimeZone = 'Pacific/Chatham'",
    "bytea_output = 'escape'",
    "client_encoding = 'LATIN1'",
    "transform_null_equals = on",
    "standard_conforming_strings = off",
)


@pytest.mark.parametrize("setting", STRANGE)
def test_no_setting_of_a_role_changes_what_is_read_or_how_it_is_declared(database, setting):
    session = database.connect()
    session.run(
        'CREATE TABLE entry (entry_id serial PRIMARY KEY, "Kind" "char", f float8, i interval,'
        " d date, at tstzrange, b bytea[], t text)"
    )
    session.run(
        "INSERT INTO entry VALUES (1, 'x', 1::float8 / 3, '1 day 2 hours', '2024-02-01',"
        " '[2024-02-01 12:00+05,)', '{\\\\x00ff}', '€')"
    )
    expected = get_table_data("entry", 0, database.connect("reader"))
    declared = read_survey([Table("entry")], database.connect("reader")).declared
    let_reader(database, setting)
    reader = database.connect("reader")
    assert get_table_data("entry", 0, reader).equals(expected)
    assert read_survey([Table("entry")], database.connect("reader")).declared == declared


@pytest.fixture
def pooled(database):
    """Return a session through a pooler with so many backends, whose spelling is someone else's."""
    with ExitStack() as stack:

        def log_in(backends):
            sessions = [database.connect("reader") for _ in range(backends)]
            for session in sessions:
                session.run("SET IntervalStyle = 'iso_8601'")
            host = stack.enter_context(listening(Pooler.PORT, Pooler(sessions).serve))
            where = database.secret | {"host": host, "port": Pooler.PORT}
            session = connect(Credentials(**where), Path(), 10)
            stack.callback(disconnect, session)
            return session

        yield log_in


INTERVALS = "CREATE TABLE entry (entry_id serial PRIMARY KEY, lasts interval DEFAULT '1 mon')"


def test_a_pooler_that_pools_by_session_is_used(database, pooled):
    database.connect().run(f"{INTERVALS}; INSERT INTO entry DEFAULT VALUES")
    assert get_table_data("entry", 0, pooled(1))["lasts"].tolist() == ["1 mon"]


@pytest.mark.parametrize("backends", [2, 3, 4, 5])
def test_a_pooler_that_pools_by_transaction_is_refused_or_harmless(database, pooled, backends):
    database.connect().run(f"{INTERVALS}; INSERT INTO entry DEFAULT VALUES")
    session, refused = pooled(backends), []
    for _ in range(6):
        try:
            assert get_table_data("entry", 0, session)["lasts"].tolist() == ["1 mon"]
        except SourceError as error:
            refused.append(str(error))
    assert all("Connect to the database itself" in words for words in refused)
    assert refused or backends == 2


def test_a_survey_and_a_reconciliation_through_such_a_pooler_are_refused(database, bucket, pooled):
    place = Place(database, bucket, ["entry"], {})
    place.execute(INTERVALS, "INSERT INTO entry DEFAULT VALUES")
    place.run()
    with pytest.raises(SourceError, match="Connect to the database itself"):
        read_survey([Table("entry")], pooled(3))
    with pytest.raises(SourceError, match="Connect to the database itself"):
        reconcile("entry", bucket.client, pooled(3), bucket.name, with_changes=False)


@pytest.mark.parametrize("version", ["12.22", "9.6.24", "12beta1", "10.23 (Debian 10.23-1)"])
def test_a_server_that_is_too_old_is_refused(database, version):
    pooler = Pooler([database.connect("reader")], server_version=version)
    with listening(Pooler.PORT, pooler.serve) as host:
        where = database.secret | {"host": host, "port": Pooler.PORT}
        with pytest.raises(SourceError, match=f"is version {re.escape(version)}.* needs 13 or new"):
            connect(Credentials(**where), Path(), 10)


# --- limits of a role that would end the session ---

LATER_LIMITS = {"idle_session_timeout": 14, "transaction_timeout": 17}


def test_the_limits_of_the_session_are_ours(database):
    later = [name for name, brought in LATER_LIMITS.items() if database.server.version >= brought]
    for name in later:
        let_reader(database, f"{name} = '1s'")
    names = (
        *later, "statement_timeout", "lock_timeout",
        "idle_in_transaction_session_timeout", "default_transaction_read_only",
    )  # fmt: skip
    with closing(connect(Credentials(**database.secret), Path(), 10)) as session:
        found = [session.run(f"SHOW {name}")[0][0] for name in names]
    assert found == [*["0"] * len(later), "10s", "5s", "10s", "on"]
