"""Who is waited for when an id is missing, who is not, and what happens when one stays open."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager

import pytest

from services.ingestion.new_rows import read_new_rows
from shared.tables import Table
from tests.helpers.servers import version
from tests.helpers.writers.entries import INSERT, LIST, SERIAL, Entries, Interleaved, ids, wait_for

pytestmark = pytest.mark.thorough

FIRST_POLL = LIST + 1

# A sequence that the catalogue knows no table of: what is left is the locks on the tables.
IDS = "CREATE SEQUENCE ids"
DRAWN = "entry_id integer DEFAULT nextval('ids'::text), note text"
SCHEMAS = {
    "plain": (SERIAL,),
    "identity": ("CREATE TABLE entry (entry_id integer GENERATED ALWAYS AS IDENTITY, note text)",),
    "partitioned": (
        IDS,
        f"CREATE TABLE entry ({DRAWN}, part integer DEFAULT 1) PARTITION BY LIST (part)",
        "CREATE TABLE leaf PARTITION OF entry FOR VALUES IN (1) PARTITION BY LIST (note)",
        "CREATE TABLE leaf_of_leaf PARTITION OF leaf DEFAULT",
    ),
    "a leaf": (
        IDS,
        f"CREATE TABLE whole ({DRAWN}) PARTITION BY LIST (note)",
        "CREATE TABLE entry PARTITION OF whole DEFAULT",
    ),
    "inherited": (IDS, f"CREATE TABLE entry ({DRAWN})", "CREATE TABLE child () INHERITS (entry)"),
    "behind a view": (SERIAL, "CREATE VIEW seen AS SELECT * FROM entry"),
    "filled by a trigger": (
        SERIAL,
        "CREATE TABLE cause (note text)",
        "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS"
        f" $$ BEGIN {INSERT}; RETURN NEW; END $$",
        "CREATE TRIGGER fill BEFORE INSERT ON cause FOR EACH ROW EXECUTE FUNCTION fill()",
    ),
    "drawn by a trigger": (
        "CREATE TABLE entry (entry_id integer, note text)",
        "CREATE SEQUENCE entry_entry_id_seq",
        "CREATE FUNCTION draw() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN NEW.entry_id = nextval('entry_entry_id_seq'); RETURN NEW; END $$",
        "CREATE TRIGGER draw BEFORE INSERT ON entry FOR EACH ROW EXECUTE FUNCTION draw()",
    ),
    "referred to": (
        SERIAL,
        "CREATE TABLE child (entry_id integer REFERENCES entry ON DELETE CASCADE)",
        "CREATE TABLE other (other_id serial)",
    ),
}
WRITERS = {
    "INSERT": ("plain", INSERT),
    "INSERT of an identity": ("identity", INSERT),
    "INSERT in a released savepoint": ("plain", "SAVEPOINT s", INSERT, "RELEASE s"),
    "INSERT after one that was undone": ("plain", "SAVEPOINT s", INSERT, "ROLLBACK TO s", INSERT),
    "stronger lock, then INSERT": ("plain", "LOCK TABLE entry IN EXCLUSIVE MODE", INSERT),
    "SHARE ROW EXCLUSIVE": ("plain", "LOCK TABLE entry IN SHARE ROW EXCLUSIVE MODE", INSERT),
    "ON CONFLICT": ("plain", f"{INSERT} ON CONFLICT DO NOTHING"),
    "MERGE": (
        "plain",
        "MERGE INTO entry USING (SELECT 'x' AS n) AS s ON note = n"
        " WHEN NOT MATCHED THEN INSERT (note) VALUES (n)",
    ),
    "function": ("plain", f"DO $$ BEGIN {INSERT}; END $$"),
    "nextval, and the INSERT still to come": ("plain", "SELECT nextval('entry_entry_id_seq')"),
    "nextval in a savepoint that was undone": (
        "plain",
        "SAVEPOINT s",
        "SELECT nextval('entry_entry_id_seq')",
        "ROLLBACK TO s",
    ),
    "through the partitioned parent": ("partitioned", INSERT),
    "into a partition": ("partitioned", "INSERT INTO leaf (note) VALUES ('open')"),
    "into a partition of a partition": ("partitioned", "INSERT INTO leaf_of_leaf VALUES (DEFAULT)"),
    "into a leaf that is read, through its parent": (
        "a leaf",
        "INSERT INTO whole (note) VALUES ('open')",
    ),
    "into a child": ("inherited", "INSERT INTO child (note) VALUES ('open')"),
    "through a view": ("behind a view", "INSERT INTO seen (note) VALUES ('open')"),
    "by a trigger of another table": ("filled by a trigger", "INSERT INTO cause VALUES ('open')"),
    "id drawn by a trigger": ("drawn by a trigger", INSERT),
}
BYSTANDERS = {
    "reader": ("plain", "SELECT * FROM entry"),
    "SELECT FOR UPDATE": ("plain", "SELECT * FROM entry FOR UPDATE"),
    "SELECT FOR SHARE": ("plain", "SELECT * FROM entry FOR SHARE"),
    "ANALYZE": ("plain", "ANALYZE entry"),
    "CREATE INDEX": ("plain", "CREATE INDEX ON entry (note)"),
    "foreign key check": ("referred to", "INSERT INTO child VALUES (1)"),
    "writer of another table": ("referred to", "INSERT INTO other DEFAULT VALUES"),
    "look at the sequence": ("plain", "SELECT last_value FROM entry_entry_id_seq"),
    "open transaction": ("plain", "SELECT 1"),
}


@pytest.fixture
def make(database):
    """Make a table with a dead gap below its last row: ids 1 and 3."""

    def make(schema):
        entries = Entries(database, *SCHEMAS[schema])
        entries.add()
        entries.roll_back()
        entries.add()
        return entries

    return make


@pytest.fixture
def entries(make):
    return make("plain")


@contextmanager
def in_background(entries, statement):
    """Run a statement that does not come back before the block ends."""
    session = entries.connect()
    [[pid]] = session.run("SELECT pg_backend_pid()")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(session.run, statement)
        try:
            yield pid
        except BaseException:
            entries.writer.run(f"SELECT pg_terminate_backend({pid})")  # or nothing would end it
            raise
    running.result()


# --- who ---


def is_waited_for(entries):
    rows = entries.read()
    assert ids(rows) == ([1] if rows.held_back else [1, 3])
    return bool(rows.held_back)


if version() < 15:
    del WRITERS["MERGE"]


@pytest.mark.parametrize("case", WRITERS.values(), ids=WRITERS.keys())
def test_a_writer_is_waited_for_until_it_ends_also_when_it_is_prepared(make, case):
    schema, *statements = case
    entries = make(schema)
    writer = entries.open(*statements)
    assert is_waited_for(entries)
    writer.run("PREPARE TRANSACTION 'late'")
    writer.run("BEGIN")
    assert is_waited_for(entries)
    entries.writer.run("ROLLBACK PREPARED 'late'")
    assert not is_waited_for(entries)


@pytest.mark.parametrize("case", BYSTANDERS.values(), ids=BYSTANDERS.keys())
def test_others_are_not_waited_for(make, case):
    schema, *statements = case
    entries = make(schema)
    entries.open(*statements)
    assert not is_waited_for(entries)


def test_vacuum_is_not_waited_for(entries):
    # A cursor keeps its page from being cleaned.
    cursor = entries.open("DECLARE c CURSOR FOR SELECT * FROM entry", "FETCH 1 FROM c")
    with in_background(entries, "VACUUM (FREEZE) entry") as pid:
        wait_for(
            entries.writer,
            f"SELECT wait_event = 'BufferPin' FROM pg_stat_activity WHERE pid = {pid}",
        )
        assert not is_waited_for(entries)
        cursor.run("COMMIT")


def test_an_index_that_is_built_concurrently_is_not_waited_for(entries):
    older = entries.open("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "SELECT 1")
    with in_background(entries, "CREATE INDEX CONCURRENTLY ON entry (note)") as pid:
        wait_for(
            entries.writer,
            "SELECT phase = 'waiting for old snapshots' FROM pg_stat_progress_create_index"
            f" WHERE pid = {pid}",
        )
        assert not is_waited_for(entries)
        older.run("COMMIT")


def test_a_writer_that_has_not_got_its_lock_yet_has_drawn_nothing(entries):
    blocker = entries.open("LOCK TABLE entry IN SHARE MODE")
    with in_background(entries, INSERT) as pid:
        wait_for(
            entries.writer,
            f"SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND pid = {pid}",
        )
        assert not is_waited_for(entries)
        blocker.run("COMMIT")
    assert ids(entries.read()) == [1, 3, 4]


def test_a_row_on_its_way_to_a_partition_holds_the_lock_of_its_parent_alone(make):
    entries = make("a leaf")
    blocker = entries.connect()
    blocker.run("SELECT pg_advisory_lock(1)")
    on_its_way = "INSERT INTO whole (note) VALUES (pg_advisory_lock(1)::text)"
    with in_background(entries, on_its_way) as pid:
        wait_for(
            entries.writer,
            f"SELECT count(*) = 1 FROM pg_locks WHERE NOT granted AND pid = {pid}",
        )
        assert not entries.writer.run(
            f"SELECT FROM pg_locks WHERE relation = 'entry'::regclass AND pid = {pid}"
        )
        assert is_waited_for(entries)
        blocker.run("SELECT pg_advisory_unlock(1)")
    assert ids(entries.read()) == [1, 3, 4]


def test_the_same_table_of_a_copied_database_is_another_table(entries, database, server):
    copied = f"{database.name}_copy"
    database.close()
    server.create_database(copied, template=database.name)
    with closing(server.connect(copied)) as writer, closing(database.connect("reader")) as reader:
        writer.run("BEGIN")
        writer.run(INSERT)
        assert ids(read_new_rows(Table("entry"), 0, reader, wait_seconds=0)) == [1, 3]
    server.drop_database(copied)


# --- waiting ---


class Before13Point5(Interleaved):
    """A session that names prepared transactions as PostgreSQL did before 13.5 (and 12.9, ...)."""

    def run(self, sql):
        found = super().run(sql)
        if "SELECT DISTINCT virtualtransaction FROM pg_locks" not in sql:
            return found
        prepared = self._session.run("SELECT virtualtransaction FROM pg_locks WHERE pid IS NULL")
        return [["-1/790" if [name] in prepared else name] for [name] in found]


@pytest.mark.parametrize("connect", [Interleaved, Before13Point5])
def test_a_transaction_that_is_prepared_while_it_is_waited_for(entries, connect):
    writer = entries.open(INSERT)
    entries.add()
    steps = {
        FIRST_POLL: [lambda: writer.run("PREPARE TRANSACTION 'late'")],
        FIRST_POLL + 2: [lambda: writer.run("COMMIT PREPARED 'late'")],
    }
    rows = read_new_rows(Table("entry"), 0, connect(entries.reader, steps), wait_seconds=20)
    assert ids(rows) == [1, 3, 4, 5]


def test_only_the_writers_of_the_first_list_are_waited_for(entries):
    writer = entries.open(INSERT)
    entries.add()
    steps = {
        FIRST_POLL: [lambda: entries.open(INSERT)],
        FIRST_POLL + 1: [lambda: writer.run("COMMIT")],
    }
    session = Interleaved(entries.reader, steps)
    rows = read_new_rows(Table("entry"), 0, session, wait_seconds=20)
    assert ids(rows) == [1, 3, 4, 5]
    # describe, read, list, two polls, and the gaps again
    assert len(session.statements) == 6


def test_a_writer_that_stays_open_holds_back_what_is_above_its_gap(entries, log_lines):
    writer = entries.open("SET application_name = 'somebody''s psql'", INSERT)
    entries.add()
    late = entries.open(INSERT)
    entries.add(2)
    steps = {FIRST_POLL: [lambda: late.run("COMMIT")]}
    rows = read_new_rows(Table("entry"), 3, Interleaved(entries.reader, steps), wait_seconds=0.05)
    assert (ids(rows), rows.held_back) == ([], 4)
    assert rows.waited >= 0.05
    [line] = log_lines()
    [[pid]] = writer.run("SELECT pg_backend_pid()")
    assert (line["level"], line["table"], line["held_back_rows"]) == ("WARNING", "entry", 4)
    assert line["missing_id"] == 4
    [transaction] = line["transactions"]
    assert (transaction["pid"], transaction["role"]) == (pid, "postgres")
    assert transaction["application"] == "somebody's psql"
    entries.writer.run(transaction["end_with"])
    has_ended = f"SELECT NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})"
    wait_for(entries.writer, has_ended)
    assert ids(entries.read(3)) == [5, 6, 7, 8]


def test_a_prepared_transaction_is_named_with_the_statement_that_ends_it(entries, log_lines):
    writer = entries.open(INSERT)
    writer.run("PREPARE TRANSACTION 'it''s ready'")
    entries.open("BEGIN; PREPARE TRANSACTION 'of nobody we wait for'")
    entries.add()
    assert entries.read(3).held_back == 1
    [line] = log_lines()
    [transaction] = line["transactions"]
    assert (transaction["prepared"], transaction["role"]) == ("it's ready", "postgres")
    entries.writer.run(transaction["end_with"])
    assert ids(entries.read(3)) == [5]


def test_rows_below_the_gap_of_an_open_writer_land(entries, log_lines):
    entries.open(INSERT)
    entries.roll_back()
    entries.add()
    rows = entries.read()
    assert (ids(rows), rows.held_back) == ([1], 2)
    # The dead gap at 2 might be the open writer's as well: nobody can tell.
    assert [line["missing_id"] for line in log_lines()] == [2]


def test_an_open_writer_above_all_rows_holds_nothing_back(entries):
    assert ids(entries.read()) == [1, 3]
    entries.add()
    entries.open(INSERT)
    rows = entries.read(3)
    assert ids(rows) == [4]
    assert rows.held_back == rows.waited == 0
