"""Children before parents: nothing that landed refers to something that has not."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from itertools import count, permutations

import pytest

from local import totesys as totesys_database
from services.ingestion import Limits, ingest, new_rows
from shared.errors import IngestionError
from shared.postgres.survey import read_survey
from shared.tables import TABLES, Table
from tests.helpers.oracle import landed
from tests.helpers.oracle.contracts import contract_of
from tests.helpers.runs.loading import Loading
from tests.helpers.runs.place import Place

WRITERS = 3
NEW_DESIGN = """
INSERT INTO design (design_name, file_location, file_name, last_updated)
SELECT design_name, file_location, file_name, last_updated FROM design LIMIT 1"""
_ORDER = """
    staff_id, counterparty_id, units_sold, unit_price, currency_id, agreed_delivery_date,
    agreed_payment_date, agreed_delivery_location_id, created_at, last_updated"""
ORDER_OF_NEW_DESIGN = f"""
INSERT INTO sales_order (design_id, {_ORDER})
SELECT (SELECT max(design_id) FROM design), {_ORDER} FROM sales_order LIMIT 1"""
SOME_TABLES = ("design", "staff", "department", "address")


def references(connection) -> list[tuple[str, str, str]]:
    """Return (table, column, referenced table) of every foreign key."""
    return [
        tuple(row)
        for row in connection.run(
            """
            SELECT child.relname, a.attname, parent.relname
            FROM pg_constraint AS c
            JOIN pg_class AS child ON child.oid = c.conrelid
            JOIN pg_class AS parent ON parent.oid = c.confrelid
            JOIN pg_attribute AS a ON a.attrelid = child.oid AND a.attnum = c.conkey[1]
            WHERE c.contype = 'f'
            """
        )
    ]


def dangling(bucket, foreign_keys) -> list[str]:
    """Return what landed and refers to something that has not."""
    rows = {table: landed.rows(bucket, table) for table in TABLES}
    ids = {table: {row[f"{table}_id"] for row in rows[table]} for table in TABLES}
    return [
        f"{table} {row[f'{table}_id']}: {column} {row[column]}"
        for table, column, parent in foreign_keys
        for row in rows[table]
        if row[column] is not None and row[column] not in ids[parent]
    ]


def test_every_table_stands_before_the_tables_it_refers_to(totesys):
    foreign_keys = references(totesys.connect())
    assert len(foreign_keys) >= 17
    # A table that was added to the service has none here: its columns are named like others' ids.
    named = [
        (table, Table(parent).id_column, parent)
        for table, parent in permutations(TABLES, 2)
        if Table(parent).id_column in contract_of(table)
    ]
    assert len(named) >= 14
    for table, column, parent in {*foreign_keys, *named}:
        assert TABLES.index(table) < TABLES.index(parent), column


@pytest.mark.thorough
@pytest.mark.parametrize("runs", [2, pytest.param(8, marks=pytest.mark.long)])
def test_under_a_storm_nothing_landed_refers_to_something_that_has_not(totesys, bucket, runs):
    foreign_keys = references(totesys.connect())
    reader = totesys.connect()

    ended = threading.Event()

    def write(seed: int) -> None:
        with closing(totesys.server.connect(totesys.name)) as connection:
            for n in count():
                if ended.wait(0.02):  # or they leave the reader no time on a small machine
                    return
                totesys_database.add_events(connection, 2, seed=seed * 1000 + n)

    with ThreadPoolExecutor(WRITERS) as pool:
        writers = [pool.submit(write, seed) for seed in range(WRITERS)]
        try:
            for _ in range(runs):
                summary = ingest(TABLES, bucket.client, reader, bucket.name)
                held_back = [done["held_back_rows"] for done in summary["tables"].values()]
                assert summary["rows"]
                assert any(held_back) or dangling(bucket, foreign_keys) == []
        finally:
            ended.set()
        for writer in writers:
            writer.result()
    ingest(TABLES, bucket.client, reader, bucket.name)
    assert dangling(bucket, foreign_keys) == []
    for table in TABLES:
        found = reader.run(f'SELECT {table}_id FROM "{table}" ORDER BY 1')
        assert landed.ids(bucket, table) == [row_id for [row_id] in found]


def add_staff(totesys) -> None:
    totesys.connect().run(
        "INSERT INTO staff (first_name, last_name, department_id, email_address, last_updated)"
        " VALUES ('A', 'B', 1, 'a.b@terrifictotes.com', now())"
    )


def add_design(totesys) -> None:
    totesys.connect().run(
        "INSERT INTO design (design_name, file_location, file_name, last_updated)"
        " VALUES ('new', '/', 'new.json', now())"
    )


def test_what_commits_meanwhile_lands_if_landed_rows_may_refer_to_it(totesys, bucket, monkeypatch):
    connection = totesys.connect()
    ingest(SOME_TABLES, bucket.client, connection, bucket.name)
    read_new_rows = new_rows.read_new_rows

    def survey_then_commit(*arguments, **options):
        seen = read_survey(*arguments, **options)
        add_staff(totesys)
        return seen

    def read_then_commit(table, *arguments, **options):
        batch = read_new_rows(table, *arguments, **options)
        if table.name == "staff":
            totesys.connect().run(
                "INSERT INTO department (department_name, location, manager, last_updated)"
                " VALUES ('D', 'E', 'F', now())"
            )
        return batch

    monkeypatch.setattr("services.ingestion.standing.read_survey", survey_then_commit)
    monkeypatch.setattr(new_rows, "read_new_rows", read_then_commit)
    add_design(totesys)
    assert [table for table in TABLES if table in SOME_TABLES] == list(SOME_TABLES)
    summary = ingest(SOME_TABLES, bucket.client, connection, bucket.name)
    assert {table for table, done in summary["tables"].items() if done["rows"]} == {
        *("design", "staff", "department")
    }
    assert not summary["more"]


@pytest.fixture
def read(monkeypatch) -> list[str]:
    """The tables that are read in the test."""
    names: list[str] = []
    read_new_rows = new_rows.read_new_rows

    def note_and_read(table, *arguments, **options):
        names.append(table.name)
        return read_new_rows(table, *arguments, **options)

    monkeypatch.setattr(new_rows, "read_new_rows", note_and_read)
    return names


def test_a_table_without_news_is_not_read(totesys, bucket, read):
    connection = totesys.connect()
    ingest(SOME_TABLES, bucket.client, connection, bucket.name)
    add_design(totesys)
    read.clear()
    ingest(SOME_TABLES, bucket.client, connection, bucket.name)
    ingest(SOME_TABLES, bucket.client, connection, bucket.name)
    assert read == ["design"]


def test_without_time_for_a_second_look_there_is_more(totesys, bucket, read):
    connection = totesys.connect()
    ingest(SOME_TABLES, bucket.client, connection, bucket.name)
    add_design(totesys)
    read.clear()
    limits = Limits(seconds_left=lambda: 0.0 if read else 10.0, without_changes=SOME_TABLES)
    summary = ingest(SOME_TABLES, bucket.client, connection, bucket.name, limits)
    assert summary["tables"]["design"]["rows"] == 1
    assert summary["more"]
    assert not ingest(SOME_TABLES, bucket.client, connection, bucket.name)["more"]


def test_a_backlog_in_front_does_not_keep_a_table_with_news_from_being_scanned(totesys, bucket):
    connection, writer = totesys.connect(), totesys.connect()
    ingest(("payment", "currency"), bucket.client, connection, bucket.name)
    totesys_database.add_events(writer, 100)
    writer.run("UPDATE currency SET currency_code = 'AUD' WHERE currency_id = 1")
    add_currency = "INSERT INTO currency (currency_code, last_updated) VALUES ('EUR', now())"
    writer.run(add_currency)
    looks = count()

    def seconds_left() -> float:
        writer.run(add_currency)  # a few times a round: so the table always has news
        return float(next(looks) < 60)

    limits = Limits(batch_rows=10, seconds_left=seconds_left)
    summary = ingest(("payment", "currency"), bucket.client, connection, bucket.name, limits)
    assert summary["more"]
    assert summary["tables"]["currency"]["changes"] == 1


@pytest.fixture
def family(database, bucket) -> Place:
    """Three tables, children first, of which one row each has landed, in batches of two."""
    connection = database.connect()
    for table in ("pet", "child", "parent"):
        connection.run(f"CREATE TABLE {table} ({table}_id serial PRIMARY KEY, refers_to int)")
        connection.run(f"INSERT INTO {table} DEFAULT VALUES")
    place = Place(database, bucket, ("pet", "child", "parent"), {}, batch_rows=2)
    place.run()
    return place


def test_rows_that_were_read_ahead_are_older_than_what_landed_in_front(family, one_step_at_a_time):
    """The parent that a child refers to commits after its table was read ahead."""
    insert = "INSERT INTO {} (refers_to) VALUES ({})"
    family.execute(insert.format("pet", 1), *[insert.format("parent", 0)] * 3)
    born: list[str] = []

    def step(words):
        if "before PutObject" in words and "/parent/" in words and ".jsonl" in words and not born:
            born.append(insert.format("parent", 0))
            family.execute(*born, insert.format("child", 5))

    family.run(step)
    assert born
    assert landed.ids(family.bucket, "child") == [1, 2]
    assert landed.ids(family.bucket, "parent") == [1, 2, 3, 4, 5]


def test_what_a_table_landed_before_it_failed_is_looked_for_behind_it(family):
    family.execute("INSERT INTO child (refers_to) VALUES (2)")

    def step(words):
        if "before PutObject" in words and "/child/latest.json" in words:
            family.execute("INSERT INTO parent (refers_to) VALUES (0)")
            raise RuntimeError("refused")

    with pytest.raises(IngestionError, match=r"^1 table\(s\) failed. child"):
        family.run(step)
    assert landed.ids(family.bucket, "child") == [1, 2]
    assert landed.ids(family.bucket, "parent") == [1, 2]


def test_the_last_run_of_a_load_lands_what_its_rows_refer_to(totesys, bucket):
    place = Place(totesys, bucket, list(TABLES), {})
    place.run()
    known = references(totesys.connect())
    loading = Loading(place)
    loading.table = "sales_order"
    planned = loading.plan()
    place.execute(NEW_DESIGN, ORDER_OF_NEW_DESIGN)
    loading.finish([loading.land(item) for item in planned["items"]])
    assert dangling(bucket, known) == []
    place.check()
