"""What the reconciliation finds: all that was done to bucket and source, or nothing."""

from __future__ import annotations

import json
import random
import threading
from contextlib import closing
from dataclasses import replace

import boto3
import numpy as np
import pytest

from services.ingestion import Limits, ingest
from services.reconciliation import handler, reconcile, report
from services.reconciliation.ids import NO_IDS
from shared.bucket import keys
from shared.errors import IngestionError, SourceError
from shared.postgres.session import disconnect
from shared.tables import TABLES, Table
from tests.helpers.cases import one_in
from tests.helpers.faults import small_steps
from tests.helpers.faults.steps import on_every_step
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import restore
from tests.helpers.runs.changing import write
from tests.helpers.runs.lambda_context import CONTEXT
from tests.helpers.runs.place import Place

pytestmark = pytest.mark.thorough

INSERT = "INSERT INTO thing (name) SELECT '{\"thing_id\":1}' FROM generate_series(1, 3)"
EXPLICIT = "INSERT INTO thing VALUES (5, 'mine')"


@pytest.fixture
def place(database, bucket):
    """Three batches of three rows have landed: 1 to 3, 4 to 6, 7 to 9."""
    return landed_thrice(Place(database, bucket, ["thing"], {}))


@pytest.fixture
def with_changes(database, bucket):
    """The same, of a table that has a change stream."""
    return landed_thrice(Place(database, bucket, ["thing"], {}, with_changes=True))


def landed_thrice(place):
    place.execute("CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)", *[INSERT] * 3)
    replace(place, batch_rows=3).run()
    return place


def look(place, step=None):
    """Reconcile; `step` is called at every step."""
    client, connection = place.bucket.client, place.session()
    if step:
        client = boto3.client("s3")
        on_every_step(client, connection, step)
    try:
        return reconcile(
            "thing", client, connection, place.bucket.name, with_changes=place.with_changes
        )
    finally:
        disconnect(connection)


def found(findings):
    """Return ids that are missing, ids that are deleted, and keys that are broken."""
    broken = {fault.key for fault in findings.faults}
    return findings.missing.tolist(), findings.deleted.tolist(), broken


def object_of(place, last):
    [key] = [key for key in landed.data_keys(place.bucket, "thing") if f"/{last}-" in key]
    return key


def rewrite(place, key, change, **metadata):
    """Put an object anew with its lines changed, and with the metadata that it has."""
    lines = landed.body(place.bucket, key).splitlines(keepends=True)
    stored = dict(place.bucket.metadata(key)) | metadata
    restore(place.bucket, {key: ("".join(change(lines)).encode(), stored)})


def test_where_all_is_well_nothing_is_found(place):
    findings = look(place)
    assert found(findings) == ([], [], set())
    assert (findings.watermark, findings.rows_in_source, findings.rows_landed) == (9, 9, 9)
    assert (findings.elsewhere, findings.pending) == (0, 0)


def test_values_that_pythons_json_refuses_are_no_faults(place):
    deep = "(repeat('[', 15000) || repeat(']', 15000))::json"
    place.execute(
        "ALTER TABLE thing ADD n numeric, ADD b jsonb, ADD j json",
        "INSERT INTO thing (n) SELECT power(10::numeric, 4300)",
        """INSERT INTO thing (b) VALUES ('{"n": 1e5000}')""",
        f"INSERT INTO thing (j) VALUES ({deep})",
    )
    place.run()
    findings = look(place)
    assert found(findings) == ([], [], set())
    assert findings.rows_landed == 12


def test_an_object_that_is_deleted_is_named_and_its_rows_are_missing(place):
    key = object_of(place, 6)
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    findings = look(place)
    assert found(findings) == ([4, 5, 6], [], {key})
    assert [fault.what for fault in findings.faults] == ["it is missing"]


def test_the_newest_object_that_is_deleted_is_named_too(place):
    key = object_of(place, 9)
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    assert found(look(place)) == ([7, 8, 9], [], {key})


def assert_found_of_each(place, changes):
    """Assert which ids are missing after each change of the lines of one object."""
    key = object_of(place, 6)
    original = {key: (landed.body(place.bucket, key).encode(), place.bucket.metadata(key))}
    for case, (change, missing) in changes.items():
        rewrite(place, key, change)
        assert found(look(place)) == (missing, [], {key}), case
        restore(place.bucket, original)
    assert found(look(place)) == ([], [], set())


def test_an_object_that_is_cut_off_is_named_and_what_is_cut_off_is_missing(place):
    cuts = {1: [], 2: [6], 10: [6], 60: [5, 6], 10_000: [4, 5, 6]}
    assert_found_of_each(
        place,
        {
            cut: (lambda lines, cut=cut: "".join(lines)[:-cut], missing)
            for cut, missing in cuts.items()
        },
    )


def test_lines_that_are_not_as_they_landed_are_found(place):
    assert_found_of_each(
        place,
        {
            "one is gone": (lambda lines: lines[:1] + lines[2:], [5]),
            "one comes twice": (lambda lines: lines + lines[:1], []),
            "not in order": (lambda lines: lines[::-1], []),
            "one of another object": (lambda lines: [*lines, '{"thing_id":7}\n'], []),
            "one is empty": (lambda lines: [lines[0], "\n", lines[2]], [5]),
            "one is no row": (lambda lines: [lines[0], "{}\n", lines[2]], [5]),
            "half a line": (lambda lines: [lines[0], lines[1][:-3] + "\n", lines[2]], [5]),
            "no integer": (lambda lines: [lines[0], '{"thing_id":5.0}\n', lines[2]], [5]),
            "no number": (lambda lines: [lines[0], '{"thing_id":true}\n', lines[2]], [5]),
            "no id of PostgreSQL's": (
                lambda lines: [lines[0], f'{{"thing_id":{2**63}}}\n', lines[2]],
                [5],
            ),
            "another one twice": (lambda lines: [lines[0], *lines[:2]], [6]),
        },
    )


def test_rows_lost_by_hand_are_found_even_if_the_metadata_agrees(place):
    key = object_of(place, 6)
    rewrite(place, key, lambda lines: lines[1:], rows="2")
    assert found(look(place)) == ([4], [], set())


def test_true_is_not_the_id_1(place):
    key = object_of(place, 3)
    rewrite(place, key, lambda lines: ['{"thing_id":true}\n', *lines[1:]], rows="2")
    assert found(look(place)) == ([1], [], {key})


def test_a_row_that_comes_twice_is_found_even_if_the_metadata_agrees(place):
    key = object_of(place, 6)
    rewrite(place, key, lambda lines: [lines[0], *lines], rows="4")
    findings = look(place)
    assert found(findings) == ([], [], {key})
    assert findings.rows_landed == 9


def test_a_row_in_an_object_that_is_not_its_own_has_not_landed(place):
    """Who applies the objects in order finds it too early, and restores an object without it."""
    here, gone = object_of(place, 6), object_of(place, 9)
    rewrite(place, here, lambda lines: [*lines, '{"thing_id":7}\n'], rows="4")
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=gone)
    findings = look(place)
    assert found(findings) == ([7, 8, 9], [], {here, gone})
    assert findings.rows_landed == 6


def test_the_id_is_the_column_wherever_it_stands_in_the_line(place):
    def id_last(lines):
        rows = [json.loads(line) for line in lines]
        return [json.dumps({"name": row["name"]} | row) + "\n" for row in rows]

    rewrite(place, object_of(place, 6), id_last)
    assert found(look(place)) == ([], [], set())


def test_an_object_that_no_claim_names_is_named(place):
    key = keys.format_data_key(Table("thing"), 6, "2031-01-01T00-00-00")
    restore(place.bucket, {key: (landed.body(place.bucket, object_of(place, 6)).encode(), {})})
    assert found(look(place)) == ([], [], {key})


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("body", [None, b"{"])
def test_a_claim_that_is_gone_or_spoilt_is_named_and_its_rows_are_not_missing(place, start, body):
    claim, key = keys.format_claim_key(Table("thing"), start), object_of(place, start + 3)
    if body is None:
        place.bucket.client.delete_object(Bucket=place.bucket.name, Key=claim)
    else:
        restore(place.bucket, {claim: (body, {})})
    missing, deleted, broken = found(look(place))
    assert (missing, deleted) == ([], [])
    assert key in broken
    assert broken & {claim, keys.format_claim_key(Table("thing"), 0)}


def test_rows_deleted_at_the_source_are_found(place):
    place.execute("DELETE FROM thing WHERE thing_id IN (2, 3, 9)")
    findings = look(place)
    assert found(findings) == ([], [2, 3, 9], set())
    assert (findings.rows_in_source, findings.rows_landed) == (6, 9)


def test_a_table_that_is_emptied(place):
    place.execute("TRUNCATE thing")
    assert found(look(place)) == ([], list(range(1, 10)), set())


# --- in steps of a few ids ---


@pytest.mark.parametrize(("held", "read"), [(1, 1), (3, 2), (3, 100), (4, 1), (9, 2)])
def test_in_small_steps_it_finds_the_same(place, monkeypatch, held, read):
    """Nothing is counted twice, and nothing is compared with rows of another stretch."""
    small_steps.hold_few_ids(monkeypatch, held)
    small_steps.read_few_ids(monkeypatch, read)
    findings = look(place)
    assert found(findings) == ([], [], set())
    assert (findings.rows_in_source, findings.rows_landed) == (9, 9)
    key = object_of(place, 6)
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    place.execute("DELETE FROM thing WHERE thing_id IN (2, 5, 8)")
    findings = look(place)
    assert found(findings) == ([4, 6], [2, 8], {key})
    assert (findings.rows_in_source, findings.rows_landed) == (6, 6)


@pytest.mark.parametrize(
    ("name", "looked_up"), [("place", 1), ("place", 6), ("with_changes", 4), ("with_changes", 5)]
)
def test_all_missing_ids_are_looked_up_again(name, looked_up, monkeypatch, request):
    place = request.getfixturevalue(name)
    place.run()  # where there is a change stream, it has a mark from now on
    small_steps.look_few_ids_up(monkeypatch, looked_up)
    for last in (3, 9):
        key = object_of(place, last)
        place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    findings = look(place)
    assert found(findings)[:2] == ([1, 2, 3, 7, 8, 9], [])
    assert findings.pending == 0


def test_more_missing_ids_than_a_statement_looks_up(database, bucket):
    """With the numbers that are deployed."""
    rows = 10_050
    place = Place(database, bucket, ["thing"], {})
    place.execute(
        "CREATE TABLE thing (thing_id serial PRIMARY KEY)",
        f"INSERT INTO thing SELECT FROM generate_series(1, {rows})",
    )
    place.run()
    place.bucket.client.delete_object(Bucket=bucket.name, Key=object_of(place, rows))
    findings = look(place)
    assert findings.missing.tolist() == list(range(1, rows + 1))
    assert findings.pending == 0


# --- ids of rows ---


@pytest.mark.parametrize("row_id", [5, 0, -7])
def test_rows_with_ids_of_their_own_are_missing_where_there_is_no_change_stream(place, row_id):
    place.execute("DELETE FROM thing WHERE thing_id = 5", f"INSERT INTO thing VALUES ({row_id})")
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=object_of(place, 6))
    place.run()
    missing, _, _ = found(look(place))
    assert missing == sorted({4, 6, row_id})


# --- with a change stream ---


@pytest.fixture
def with_gap(with_changes):
    """Of a table with a change stream 4 to 6 were rolled back, but for an id of its own."""
    with closing(with_changes.database.connect()) as connection:
        connection.run("BEGIN")
        connection.run(INSERT)
        connection.run("ROLLBACK")
    with_changes.execute(INSERT)
    with_changes.run()
    assert landed.ids(with_changes.bucket, "thing") == [*range(1, 10), 13, 14, 15]
    write(with_changes, EXPLICIT.replace("5", "11"))
    return with_changes


def test_a_row_with_an_id_of_its_own_is_pending_until_the_change_stream_has_it(with_gap):
    findings = look(with_gap)
    assert found(findings) == ([], [], set())
    assert (findings.pending, findings.elsewhere) == (1, 0)
    with_gap.run()
    findings = look(with_gap)
    assert found(findings) == ([], [], set())
    assert (findings.pending, findings.elsewhere) == (0, 1)


def test_a_mark_that_is_set_while_it_looks_proves_nothing(with_gap):
    """The objects that it stands for came after those that were looked into: it looks again."""
    runs: list[str] = []

    def ingest_once(step):
        if step.startswith("before SELECT seen") and not runs:
            runs.append(step)
            with_gap.run()

    findings = look(with_gap, ingest_once)
    assert len(runs) == 1
    assert found(findings) == ([], [], set())
    assert (findings.pending, findings.elsewhere) == (0, 1)


def test_a_row_that_the_change_stream_has_lost_is_missing(with_gap):
    with_gap.run()
    [key] = [key for key in with_gap.bucket.keys("changes/thing/") if keys.is_change_key(key)]
    with_gap.bucket.client.delete_object(Bucket=with_gap.bucket.name, Key=key)
    assert found(look(with_gap)) == ([11], [], set())


def test_rows_of_an_object_that_is_deleted_are_not_pending(with_changes):
    with_changes.run()
    key = object_of(with_changes, 6)
    with_changes.bucket.client.delete_object(Bucket=with_changes.bucket.name, Key=key)
    findings = look(with_changes)
    assert found(findings) == ([4, 5, 6], [], {key})
    assert findings.pending == 0


def test_a_stream_that_has_no_mark_is_waited_for(place):
    place.execute("DELETE FROM thing WHERE thing_id = 5")
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=object_of(place, 6))
    findings = reconcile(
        "thing", place.bucket.client, place.database.connect(), place.bucket.name, with_changes=True
    )
    assert findings.missing.tolist() == []
    assert findings.pending == 2


# --- with former replays ---


def test_what_lies_in_the_folder_of_former_replays_has_not_landed(place):
    """A replay that landed after a tombstone would raise the dead."""
    key, name = object_of(place, 6), place.bucket.name
    former = {"Bucket": name, "Key": "replays/thing/2024-11-11T15-03-24-3-6.jsonl"}
    place.bucket.client.copy_object(CopySource={"Bucket": name, "Key": key}, **former)
    place.bucket.client.delete_object(Bucket=name, Key=key)
    findings = look(place)
    assert found(findings) == ([4, 5, 6], [], {key})
    assert findings.elsewhere == 0


# --- where things happen meanwhile ---


def test_nothing_has_landed_yet(database, bucket):
    place = Place(database, bucket, ["thing"], {})
    place.execute("CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)", INSERT)
    findings = look(place)
    assert found(findings) == ([], [], set())
    assert (findings.watermark, findings.rows_in_source) == (0, 0)


def test_rows_that_are_claimed_and_not_landed_are_not_missing(place):
    place.execute(INSERT)
    place.die_after_claiming()
    assert found(look(place)) == ([], [], set())
    assert look(place).watermark == 9


def test_rows_that_are_held_back_are_not_missing(place):
    with closing(place.database.connect()) as writer:
        writer.run("BEGIN")
        writer.run(INSERT)
        place.execute(INSERT)
        limits = Limits(writer_wait_seconds=0, without_changes=["thing"])
        summary = ingest(
            ["thing"], place.bucket.client, place.database.connect(), place.bucket.name, limits
        )
        assert summary["tables"]["thing"]["held_back_rows"] == 3
        assert found(look(place)) == ([], [], set())
        writer.run("COMMIT")
    assert found(look(place)) == ([], [], set())


# Not at every step, or the position would never be found: the chain would grow as it is walked.
@pytest.mark.parametrize("first", one_in(3, [0, 4, 8]))
def test_rows_that_land_at_any_step_are_not_missing(with_changes, first, monkeypatch):
    small_steps.read_few_ids(monkeypatch, 4)
    lock = threading.Lock()
    steps: list[str] = []
    landings: list[str] = []

    def ingest_meanwhile(step):
        with lock:
            if len(steps) % 11 == first:
                with_changes.execute(INSERT)
                with_changes.run()
                landings.append(step)
            steps.append(step)

    findings = look(with_changes, ingest_meanwhile)
    assert found(findings) == ([], [], set())
    assert findings.rows_in_source == findings.rows_landed == findings.watermark
    assert len(landings) >= 2
    assert len(landed.ids(with_changes.bucket, "thing")) == 9 + 3 * len(landings)


def test_a_row_with_an_id_of_its_own_that_comes_and_goes_at_any_step_is_not_missing(with_gap):
    lock, turn = threading.Lock(), [0]

    def write_meanwhile(step):
        with lock:
            turn[0] += 1
            with_gap.execute(
                "DELETE FROM thing WHERE thing_id = 11" if turn[0] % 3 else EXPLICIT_11
            )
            if turn[0] % 4 == 0:
                with_gap.run()

    assert found(look(with_gap, write_meanwhile)) == ([], [], set())
    assert turn[0] > 20


EXPLICIT_11 = "INSERT INTO thing VALUES (11, 'mine') ON CONFLICT DO NOTHING"


@pytest.mark.parametrize("seed", one_in(19, range(1, 20)))
def test_whatever_happened_what_is_found_is_what_a_consumer_lacks(place, seed):
    """Gaps, batches of any size, deletes, runs that died, and lines lost by hand."""
    rng = random.Random(seed)

    def roll_back():
        with closing(place.database.connect()) as connection:
            connection.run("BEGIN")
            connection.run(INSERT)
            connection.run("ROLLBACK")

    def delete():
        place.execute(f"DELETE FROM thing WHERE thing_id = {rng.randint(1, 40)}")

    def lose_a_line():
        key = rng.choice(landed.data_keys(place.bucket, "thing"))
        gone = rng.randint(0, 2)
        rewrite(place, key, lambda lines: [*lines[:gone], *lines[gone + 1 :]])

    def land():
        limits = Limits(batch_rows=rng.randint(1, 5), without_changes=["thing"])
        ingest(["thing"], place.bucket.client, place.database.connect(), place.bucket.name, limits)

    def die():
        place.execute(INSERT)
        place.die_after_claiming()

    happenings = [lambda: place.execute(INSERT), roll_back, delete, lose_a_line, land, land, die]
    for happens in rng.choices(happenings, k=10):
        happens()
        findings = look(place)
        has = set(landed.ids(place.bucket, "thing"))
        with closing(place.database.connect()) as connection:
            rows = connection.run("SELECT thing_id FROM thing")
        there = {row_id for [row_id] in rows if row_id <= findings.watermark}
        missing, deleted, _ = found(findings)
        assert (set(missing), set(deleted)) == (there - has, has - there)


# --- where it does not work, and what people are told ---


def test_inside_a_transaction_it_is_refused(place):
    connection = place.database.connect()
    connection.run("BEGIN")
    with pytest.raises(SourceError, match="inside a transaction"):
        reconcile("thing", place.bucket.client, connection, place.bucket.name)


def test_ids_are_told_as_ranges():
    assert report.ranges(np.array([1, 2, 3, 7, 9, 10])) == [[1, 3], [7, 7], [9, 10]]
    assert report.ranges(NO_IDS) == []


@pytest.fixture
def landed_tables(deployed, totesys, bucket, monkeypatch):
    """A Totesys of which some tables have landed; the handler knows no others."""
    monkeypatch.setenv("WITHOUT_CHANGES", "all")
    tables = ("payment", "staff", "department")
    monkeypatch.setattr("shared.events.TABLES", tables)
    limits = Limits(without_changes=TABLES)
    ingest(tables, bucket.client, totesys.connect(), bucket.name, limits)
    return totesys


def call():
    return handler.lambda_handler({}, CONTEXT)


def fired(log_lines):
    """Return the alarms that the lines name."""
    return {line["alarm"] for line in log_lines() if "alarm" in line}


def test_all_is_well(deployed, totesys, bucket, log_lines):
    ingest(TABLES, bucket.client, totesys.connect(), bucket.name)
    answer = call()
    assert list(answer["tables"]) == list(TABLES)
    assert all(figures["missing"] == 0 for figures in answer["tables"].values())
    assert all(figures["rows_landed"] for figures in answer["tables"].values())
    assert {line["level"] for line in log_lines()} == {"INFO"}
    said = json.loads(landed.body(bucket, answer["key"]))
    assert said["tables"]["staff"]["missing_ids"] == said["tables"]["staff"]["faults"] == []
    assert not said["tables"]["staff"]["is_cut"]
    # A second call of a day writes over the first.
    totesys.connect().run("DELETE FROM payment WHERE payment_id = 3")
    assert call()["key"] == answer["key"]
    said = json.loads(landed.body(bucket, answer["key"]))
    assert said["tables"]["payment"]["deleted_ids"] == [[3, 3]]


def test_what_is_found_is_told_by_log_and_object(landed_tables, bucket, log_lines, monkeypatch):
    small_steps.list_few(monkeypatch, 2)
    [key] = landed.data_keys(bucket, "staff")
    bucket.client.delete_object(Bucket=bucket.name, Key=key)
    landed_tables.connect().run("DELETE FROM payment WHERE payment_id IN (3, 5, 8, 9)")
    answer = call()
    lines = {line["message"].split(".")[0]: line for line in log_lines()}
    staff = {"level": "ERROR", "table": "staff"}
    assert lines["An object is not as it landed"].items() >= (staff | {"key": key}).items()
    missing = lines["Rows of the source have not landed"]
    assert missing.items() >= (staff | {"missing": 20}).items()
    assert missing["first_ids"] == list(range(1, 11))
    gone = lines["Rows that landed were deleted from the source"]
    assert (gone["level"], gone["table"], gone["first_ids"]) == ("WARNING", "payment", [3, 5, 8, 9])
    assert fired(log_lines) == {"rows-missing", "objects-broken"}
    said = json.loads(landed.body(bucket, answer["key"]))["tables"]
    assert said["staff"]["missing_ids"] == [[1, 20]]
    assert said["payment"]["deleted_ids"] == [[3, 3], [5, 5]]
    assert (said["payment"]["deleted"], said["payment"]["is_cut"]) == (4, True)


def test_an_object_with_several_faults_is_one_broken_object(landed_tables, bucket):
    [key] = landed.data_keys(bucket, "staff")
    body, metadata = landed.body(bucket, key)[:-10].encode(), bucket.metadata(key)
    restore(bucket, {key: (body, metadata)})
    figures = call()["tables"]["staff"]
    assert (figures["missing"], figures["broken_objects"]) == (1, 1)


def test_a_row_that_the_change_stream_may_yet_bring_is_no_alarm(
    landed_tables, log_lines, monkeypatch
):
    monkeypatch.setenv("WITHOUT_CHANGES", "")
    landed_tables.connect().run(
        "INSERT INTO department (department_id, department_name, location, manager, created_at, "
        "last_updated) SELECT -1, department_name, location, manager, now(), now() "
        "FROM department WHERE department_id = 1"
    )
    figures = call()["tables"]["department"]
    assert (figures["missing"], figures["pending"]) == (0, 1)
    assert fired(log_lines) == set()
    [line] = [line for line in log_lines() if line["level"] != "INFO"]
    assert (line["level"], line["table"], line["pending"]) == ("WARNING", "department", 1)


def test_a_table_that_can_not_be_reconciled_stops_no_other(landed_tables, bucket, log_lines):
    landed_tables.connect().run("ALTER TABLE department RENAME TO departments")
    with pytest.raises(IngestionError, match=r"department: SourceError: .*role's search_path"):
        call()
    [key] = bucket.keys("reconcile/")
    said = json.loads(landed.body(bucket, key))
    assert set(said["tables"]) == {"payment", "staff"}
    assert list(said["failed"]) == ["department"]
