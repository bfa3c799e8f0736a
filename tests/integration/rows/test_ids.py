"""Ids as they should not be: not unique, NULL, or not drawn by the INSERT."""

from __future__ import annotations

from contextlib import closing

import numpy as np
import pytest

from local.totesys.database import Server
from services.ingestion import Limits, ingest
from services.ingestion.new_rows import read_new_rows
from services.reconciliation import reconcile, report
from shared.postgres.survey import read_survey
from shared.postgres.versions import read_stretch
from shared.tables import Table
from tests.helpers.oracle import landed
from tests.helpers.writers.entries import ids

pytestmark = pytest.mark.thorough

ENTRY = "CREATE TABLE entry (entry_id int, note text)"
BREAKS = "A column breaks its contract"
LATE = "Late rows of this table may be missed"


@pytest.fixture
def writer(database):
    session = database.connect()
    session.run(ENTRY)
    return session


def insert(writer, *row_ids):
    for row_id in row_ids:
        writer.run(f"INSERT INTO entry VALUES ({'NULL' if row_id is None else row_id}, 'a')")


def run(database, bucket, batch_rows=2):
    return ingest(["entry"], bucket.client, database.connect("reader"), bucket.name,
                  Limits(batch_rows, writer_wait_seconds=0))  # fmt: skip


def compare(database, bucket):
    reader = database.connect("reader")
    return reconcile("entry", bucket.client, reader, bucket.name, with_changes=False)


def said(log_lines, message):
    return [line for line in log_lines() if line.get("message") == message]


@pytest.mark.parametrize("batch_rows", [1, 2, 3, 4, 50_000])
def test_rows_that_share_an_id_land_together(database, bucket, writer, log_lines, batch_rows):
    insert(writer, 1, 2, 2, 2, 3)
    run(database, bucket, batch_rows)
    assert landed.ids(bucket, "entry") == [1, 2, 2, 2, 3]
    [line] = said(log_lines, BREAKS)
    assert (line["level"], line["column"], line["kind"]) == ("ERROR", "entry_id", "unique")
    assert (line["rows"], line["first_ids"]) == (2, [2])
    assert "no unique index" in line["found"]
    found = compare(database, bucket)
    assert (found.rows_in_source, found.rows_landed, report.counts(found)["missing"]) == (5, 5, 0)


def test_a_row_that_comes_with_an_id_that_has_landed_is_missing(database, bucket, writer):
    insert(writer, 1, 2, 2, 3)
    run(database, bucket)
    insert(writer, 2, 2, 3)
    found = compare(database, bucket)
    assert found.missing.tolist() == [2, 2, 3]
    writer.run("DELETE FROM entry WHERE entry_id = 2")
    found = compare(database, bucket)
    assert (found.missing.tolist(), found.deleted.tolist()) == ([3], [2, 2])


def test_a_row_that_is_new_is_pending_not_missing_whoever_shares_its_id(database, bucket, writer):
    """And one that was deleted meanwhile is not missing, either."""
    insert(writer, 1, 2, 3)
    reader = database.connect("reader")
    for _ in range(2):
        ingest(["entry"], bucket.client, reader, bucket.name)
    insert(writer, 2)
    found = reconcile("entry", bucket.client, reader, bucket.name)
    assert (found.missing.tolist(), found.pending) == ([], 1)
    looked_up: list = []

    def delete_then_run(sql):
        if "ANY (" in sql and not looked_up:
            looked_up.append(writer.run("DELETE FROM entry WHERE ctid = '(0,4)'"))
        return run_sql(sql)

    run_sql, reader.run = reader.run, delete_then_run
    found = reconcile("entry", bucket.client, reader, bucket.name, with_changes=False)
    assert (found.missing.tolist(), found.pending, len(looked_up)) == ([], 1, 1)


def test_an_update_of_its_namesake_does_not_hide_a_missing_row(database, bucket, writer):
    insert(writer, 1, 2, 3)
    reader = database.connect("reader")
    for _ in range(2):
        ingest(["entry"], bucket.client, reader, bucket.name)
    writer.run("UPDATE entry SET note = 'c' WHERE entry_id = 2")
    for _ in range(2):
        writer.run("SELECT pg_stat_force_next_flush()")
    ingest(["entry"], bucket.client, reader, bucket.name)
    insert(writer, 2)
    assert compare(database, bucket).missing.tolist() == [2]


def test_one_of_two_rows_of_an_id_that_is_deleted_may_be_an_altered_object(
    database, bucket, writer
):
    """It can't be told from an object in which a line was doubled."""
    insert(writer, 1, 2, 2, 3)
    run(database, bucket)
    writer.run("DELETE FROM entry WHERE ctid = '(0,2)'")
    found = compare(database, bucket)
    [fault] = found.faults
    assert "rows of one id deleted" in fault.what
    assert (found.missing.tolist(), found.deleted.tolist(), found.rows_landed) == ([], [], 3)


def test_ranges_of_ids_that_occur_more_than_once():
    assert report.ranges(np.array([2, 2, 3, 3, 4, 7, 7])) == [[2, 4], [7, 7]]


def test_rows_without_an_id_are_named_and_missing(database, bucket, writer, log_lines):
    insert(writer, 1, None, 2, None)
    run(database, bucket)
    assert landed.ids(bucket, "entry") == [1, 2]
    [line] = said(log_lines, BREAKS)
    assert (line["level"], line["column"], line["kind"]) == ("ERROR", "entry_id", "nullability")
    assert "rows without an id, which never land" in line["found"]
    found = compare(database, bucket)
    assert (found.missing.tolist(), report.counts(found)["missing"]) == ([], 2)
    report.log(found)
    [line] = said(log_lines, "Rows of the source have no id, so they can't land. Give them one, "
                             "and the column NOT NULL")  # fmt: skip
    assert (line["level"], line["missing"]) == ("ERROR", 2)


def test_a_table_of_totesys_whose_ids_may_be_null_says_so_in_each_run(totesys, bucket, log_lines):
    reader, writer = totesys.connect("reader"), totesys.connect()
    ingest(["currency"], bucket.client, reader, bucket.name)
    assert said(log_lines, BREAKS) == []
    writer.run("ALTER TABLE currency DROP CONSTRAINT currency_pkey CASCADE")
    writer.run("ALTER TABLE currency ALTER currency_id DROP NOT NULL")
    writer.run("INSERT INTO currency SELECT NULL, 'XXX', now(), now()")
    for times in (1, 2):
        ingest(["currency"], bucket.client, reader, bucket.name)
        lines = said(log_lines, BREAKS)
        assert [line["kind"] for line in lines] == ["nullability"] * times
        assert "never land" in lines[-1]["found"]


def test_a_stretch_of_the_change_scan_parts_no_rows_of_one_id(database, writer):
    insert(writer, 1, 2, 2, 2, 9999)
    reader = database.connect("reader")
    mark = read_survey([Table("entry")], reader, with_ids=False).marks["entry"]
    writer.run("UPDATE entry SET note = 'b' WHERE ctid = '(0,4)'")
    assert read_stretch(Table("entry"), reader, 0, 9999, mark, 2) == (2, True)


# --- ids that are not drawn by the INSERT ---

BLOCKS = (
    "CREATE SEQUENCE ids INCREMENT 50; ALTER TABLE entry ALTER entry_id SET DEFAULT nextval('ids')"
)


@pytest.mark.parametrize("drawn", [[1, 51, 101], [51], [7, 57, 107]])
def test_ids_on_the_steps_of_the_sequence_are_not_warned_of(database, writer, log_lines, drawn):
    writer.run(BLOCKS)
    insert(writer, *drawn)
    read_new_rows(Table("entry"), 1 if drawn == [51] else 0, database.connect("reader"))
    assert said(log_lines, LATE) == []


@pytest.mark.parametrize(("above", "drawn"), [(0, [1, 2, 3]), (0, [2, 52, 53]), (1, [52])])
def test_ids_drawn_in_blocks_by_an_application_are(database, writer, log_lines, above, drawn):
    writer.run(BLOCKS)
    insert(writer, *drawn)
    read_new_rows(Table("entry"), above, database.connect("reader"))
    [line] = said(log_lines, LATE)
    assert line["level"] == "WARNING"
    assert "INCREMENT 50" in line["because"]
    assert "in blocks" in line["because"]


def test_a_table_that_logical_replication_fills_is_warned_of(log_lines):
    table = "CREATE TABLE entry (entry_id serial PRIMARY KEY, note text)"
    with Server.start(settings={"wal_level": "logical"}) as server:
        server.create_database("publisher")
        server.create_database("subscriber")
        with (
            closing(server.connect("publisher")) as publisher,
            closing(server.connect("subscriber")) as subscriber,
            closing(server.connect("subscriber", "reader")) as reader,
        ):
            publisher.run(f"{table}; INSERT INTO entry VALUES (1, 'a')")
            publisher.run("CREATE PUBLICATION all_of_it FOR ALL TABLES")
            publisher.run("SELECT pg_create_logical_replication_slot('copies', 'pgoutput')")
            subscriber.run(table)
            read_new_rows(Table("entry"), 0, reader)
            assert said(log_lines, LATE) == []
            subscriber.run(
                f"CREATE SUBSCRIPTION copies CONNECTION 'host={server.host} dbname=publisher "
                "user=postgres' PUBLICATION all_of_it WITH (create_slot = false, enabled = false)"
            )
            assert ids(read_new_rows(Table("entry"), 0, reader)) == []
            subscriber.run("ALTER SUBSCRIPTION copies SET (slot_name = NONE)")
            subscriber.run("DROP SUBSCRIPTION copies")
    [line] = said(log_lines, LATE)
    assert "logical replication fills it" in line["because"]
