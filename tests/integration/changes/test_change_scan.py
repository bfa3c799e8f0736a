"""The latest version of every row that has landed is in the change stream, and little else."""

from __future__ import annotations

import json
import time
from contextlib import closing
from dataclasses import replace

import pytest

from services.ingestion import Limits, ingest
from shared import snapshot
from shared.bucket import keys
from shared.errors import IngestionError
from shared.postgres.survey import read_survey
from shared.tables import TABLES, Table
from tests.helpers.cases import one_in
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content
from tests.helpers.runs.changing import (
    INSERT,
    REPORT,
    SCHEMA,
    changed,
    changing,
    check_both,
    in_batches_of,
    run_for,
    run_within,
    state,
    update,
    write,
)
from tests.helpers.runs.place import Place
from tests.helpers.servers import version

pytestmark = pytest.mark.thorough


@pytest.fixture
def place(database, bucket):
    return changing(database, bucket)


def warnings(log_lines):
    return [line for line in log_lines() if line["level"] == "WARNING" and "because" in line]


NEW_VERSIONS = {
    "an update": (update(2), [2]),
    "a heap-only update": ("UPDATE thing SET paid = true WHERE thing_id = 2", [2]),
    "an update that changes nothing": ("UPDATE thing SET name = name WHERE thing_id = 2", [2]),
    "two updates in one transaction": (f"BEGIN; {update(1)}; {update(1)}; COMMIT", [1]),
    "in a savepoint": (f"BEGIN; SAVEPOINT s; {update(2)}; RELEASE s; COMMIT", [2]),
    "in a savepoint in a savepoint": (
        f"BEGIN; {update(1)}; SAVEPOINT a; SAVEPOINT b; {update(2)}; COMMIT",
        [1, 2],
    ),
    "behind a savepoint rolled back": (
        f"BEGIN; SAVEPOINT s; {update(2)}; ROLLBACK TO s; {update(3)}; COMMIT",
        [3],
    ),
    "on conflict": (
        "INSERT INTO thing (thing_id) VALUES (2) ON CONFLICT (thing_id) DO UPDATE SET paid = true",
        [2],
    ),
    "merge": (
        "MERGE INTO thing USING (VALUES (2)) AS v (id) ON thing_id = id"
        " WHEN MATCHED THEN UPDATE SET paid = true",
        [2],
    ),
    "deleted and put in again": (
        "DELETE FROM thing WHERE thing_id = 2; INSERT INTO thing (thing_id) VALUES (2)",
        [2],
    ),
    "a new value for all, the table rewritten": (
        "ALTER TABLE thing ALTER name TYPE varchar(9) USING name || '.'",
        [1, 2, 3],
    ),
}  # fmt: skip
if version() < 15:
    del NEW_VERSIONS["merge"]
NO_VERSIONS = {
    "rolled back": f"BEGIN; {update(2)}; ROLLBACK",
    "a lock": "BEGIN; SELECT FROM thing FOR UPDATE; COMMIT",
    "a lock by two": "BEGIN; SELECT FROM thing FOR KEY SHARE; SAVEPOINT s;"
    " SELECT FROM thing FOR UPDATE; COMMIT",
    "a delete": "DELETE FROM thing WHERE thing_id = 2",
    "frozen": "VACUUM FREEZE thing",
    "rewritten": "VACUUM FULL thing",
    "analysed": "ANALYZE thing",
}


@pytest.mark.parametrize(("statement", "ids"), NEW_VERSIONS.values(), ids=NEW_VERSIONS)
def test_a_new_version_lands_once(place, statement, ids):
    write(place, statement)
    summary = place.run()
    assert changed(place) == [ids]
    assert summary["tables"]["thing"]["changes"] == len(ids)
    assert summary["tables"]["thing"]["changes_repeated"] == 0
    assert summary["rows"] == 0
    place.run()
    assert changed(place) == [ids]
    check_both(place)


@pytest.mark.parametrize("name", one_in(2, NO_VERSIONS))
def test_what_is_no_version_lands_nothing(place, name):
    write(place, NO_VERSIONS[name])
    place.run()
    assert changed(place) == []


@pytest.mark.long
def test_new_rows_do_not_count_as_changed(place):
    write(place, INSERT)
    assert place.run()["rows"] == 3
    place.run()
    assert changed(place) == []
    place.check()


def test_rows_put_in_below_the_watermark_arrive_here(place):
    write(place, "SELECT setval('thing_thing_id_seq', 100)", INSERT)
    place.run()
    write(place, "INSERT INTO thing (thing_id) VALUES (50), (99)")
    place.run()
    assert changed(place) == [[50, 99]]
    check_both(place)


@pytest.mark.long
def test_rows_are_written_as_in_the_first_stream(place):
    write(place, update(1))
    place.run()
    found = place.bucket.get("changes/thing/0000000001.jsonl")
    assert found.body == b'{"thing_id":1,"name":"new!","paid":false}\n'


def test_a_broken_contract_is_reported_for_changes_too(totesys, bucket, log_lines):
    place = Place(totesys, bucket, ["payment"], {}, with_changes=True)
    place.run()
    write(place, "UPDATE payment SET payment_date = 'soon' WHERE payment_id = 5")
    summary = place.run()
    [error] = [line for line in log_lines() if line["level"] == "ERROR"]
    assert (error["table"], error["column"], error["first_ids"]) == ("payment", "payment_date", [5])
    assert summary["tables"]["payment"]["contract_violations"] == 1
    assert summary["tables"]["payment"]["changes"] == 1


def test_a_partitioned_table(database, bucket):
    place = changing(
        database,
        bucket,
        "CREATE TABLE thing (thing_id serial, name text, paid boolean DEFAULT false)"
        " PARTITION BY LIST (paid)",
        "CREATE TABLE thing_paid PARTITION OF thing FOR VALUES IN (true)",
        "CREATE TABLE thing_unpaid PARTITION OF thing FOR VALUES IN (false)",
    )
    write(place, "UPDATE thing SET paid = true WHERE thing_id = 2")
    write(place, "UPDATE thing_unpaid SET name = 'x' WHERE thing_id = 3")
    place.run()
    assert changed(place) == [[2, 3]]
    check_both(place)


def test_a_table_whose_rows_do_not_lie_in_the_order_of_their_ids(database, bucket):
    """Without an index the server reads them as they lie, and a new version lies at the end."""
    schema = "CREATE TABLE thing (thing_id serial, name text, paid boolean DEFAULT false)"
    place = changing(database, bucket, schema)
    write(place, INSERT, INSERT)
    place.run()
    write(place, update(1), update(5))
    in_batches_of(place, 2).run()
    assert changed(place) == [[1, 5]]
    check_both(place)


# Long transactions.


def test_a_long_transaction_makes_versions_come_again_and_none_be_missed(place):
    [session] = [place.database.connect()]
    session.run(f"BEGIN; {update(1)}")
    for expected in ([[2]], [[2], [2, 3]]):
        write(place, update(len(expected) + 1))
        summary = place.run()
        assert changed(place) == expected
    assert summary["tables"]["thing"]["changes_repeated"] == 1
    session.run(f"COMMIT; {REPORT}")
    summary = place.run()
    assert changed(place)[2:] == [[1, 2, 3]]
    assert summary["tables"]["thing"]["changes_repeated"] == 2
    place.run()
    assert len(changed(place)) == 3
    check_both(place)


@pytest.mark.long
@pytest.mark.parametrize("end", ["COMMIT PREPARED 'p'", "ROLLBACK PREPARED 'p'"])
def test_a_prepared_transaction(place, end):
    session = place.database.connect()
    session.run(f"BEGIN; SAVEPOINT s; {update(1)}; PREPARE TRANSACTION 'p'")
    write(place, update(2))
    place.run()
    session.run(f"{end}")
    session.run(REPORT)
    write(place, update(3))
    place.run()
    check_both(place)


@pytest.mark.long
def test_a_transaction_in_another_database_is_waited_for_by_nobody(place, server):
    session = server.connect()
    session.run("BEGIN; SELECT pg_current_xact_id()")
    write(place, update(1))
    place.run()
    assert changed(place) == [[1]]
    session.close()


def test_changes_are_not_looked_for_inside_a_transaction(place):
    """Not even if there are none: what commits meanwhile would stay invisible."""
    write(place, NO_VERSIONS["rolled back"])
    with closing(place.session()) as session:
        session.run("BEGIN")
        with pytest.raises(IngestionError, match="inside a transaction"):
            ingest(place.tables, place.bucket.client, session, place.bucket.name)


def test_what_a_changed_row_refers_to_lands_in_the_same_run(database, bucket):
    place = Place(database, bucket, ["child", "parent"], {}, with_changes=True)
    write(
        place,
        "CREATE TABLE parent (parent_id serial PRIMARY KEY)",
        "CREATE TABLE child (child_id serial PRIMARY KEY, parent_id int REFERENCES parent)",
        "INSERT INTO parent DEFAULT VALUES",
        "INSERT INTO child (parent_id) VALUES (1)",
    )
    place.run()
    write(place, "UPDATE child SET parent_id = 1")
    acts: list[str] = []

    def step(words):
        if words.startswith("before SELECT 1, EXISTS") and not acts:
            acts.append(words)
            parent = "INSERT INTO parent DEFAULT VALUES"
            place.execute(parent, "UPDATE child SET parent_id = 2")

    place.run(step)
    assert acts
    assert '"parent_id":2' in landed.body(bucket, keys.format_change_key(Table("child"), 1))
    assert landed.ids(bucket, "parent") == [1, 2]


def test_of_a_table_that_has_failed_no_changes_are_looked_for(place):
    write(place, INSERT, update(1))

    def step(words):
        if "PutObject" in words and "/claims/" in words:
            raise RuntimeError("refused")

    with pytest.raises(IngestionError):
        place.run(step)
    assert content(place.bucket) == place.before


def test_rows_held_back_do_not_hold_up_the_changes(place, log_lines):
    writer = place.database.connect()
    writer.run("BEGIN; INSERT INTO thing DEFAULT VALUES")
    write(place, INSERT, update(1))
    limits = Limits(writer_wait_seconds=0)
    for _ in range(2):
        summary = run_within(place, limits)
        assert summary["tables"]["thing"]["held_back_rows"] == 3
        assert changed(place)[-1] == [1]
    assert not summary["more"]
    writer.run("COMMIT")
    place.run()
    place.run()
    place.check()


# When a table is looked at, and what it costs.


def count(place):
    """Run; return the statements, but for a session's settings, and the requests made."""
    steps: list[str] = []
    place.run(steps.append)
    before = [step.removeprefix("before ") for step in steps if step.startswith("before")]
    requests = [step.split()[0] for step in before if "http" in step]
    return [step for step in before if "http" not in step and step[:4] != "SET "], requests


# Two small requests for each table, and one for all.
IDLE = ["GetObject"] * (2 * len(TABLES) + 1)


def test_an_idle_tick_is_one_statement_and_two_small_requests_a_table(totesys, bucket):
    place = Place(totesys, bucket, TABLES, {}, with_changes=True)
    place.run()
    statements, requests = count(place)
    assert len(statements) == 1
    assert requests == IDLE


@pytest.mark.long
def test_only_the_table_that_was_written_to_is_looked_at(totesys, bucket):
    place = Place(totesys, bucket, TABLES, {}, with_changes=True)
    place.run()
    write(place, "UPDATE design SET file_location = '/new' WHERE design_id = 8")
    statements, requests = count(place)
    # Survey, describe, find the end of the stretch, read it; perhaps ask those behind it again.
    assert len(statements) <= 5
    assert sorted(requests[len(IDLE) :]) == ["ListObjectsV2", "PutObject", "PutObject"]
    assert count(place)[1] == IDLE


def test_counters_are_not_trusted_for_ever(place, monkeypatch):
    """A session may write, and then sit there without telling the server's statistics."""
    session = place.database.connect()
    place.run()
    session.run(f"{REPORT}; SELECT 1")
    session.run(update(1))
    session.run(f"BEGIN; {update(2)}")  # what it wrote before is reported when it is idle again
    place.run()
    monkeypatch.setattr(snapshot, "TRUSTED_SECONDS", 0)
    place.run()
    assert [1] in changed(place)
    session.run("COMMIT")
    place.run()
    check_both(place)


@pytest.mark.long
def test_counters_that_were_set_back_are_noticed(place):
    write(place, update(1))
    place.run()
    before = state(place)["done"]["writes"]
    place.execute("SELECT pg_stat_reset()")
    write(place, *[update(2)] * 1)
    place.run()
    assert state(place)["done"]["writes"] != before
    assert changed(place) == [[1], [2]]


def test_tables_can_go_without_and_be_switched_on_later(place, log_lines):
    off = replace(place, with_changes=False).again()
    for key in [key for key in off.bucket.keys("changes/thing/")]:
        off.bucket.client.delete_object(Bucket=off.bucket.name, Key=key)
    write(off, update(1))
    off.run()
    assert changed(off) == []
    on = replace(off, with_changes=True)
    on.run()
    assert changed(on) == [[1, 2, 3]]
    [warning] = warnings(log_lines)
    assert "no change stream yet" in warning["because"]
    on.run()
    write(on, update(3))
    on.run()
    assert changed(on) == [[1, 2, 3], [3]]
    check_both(on)


def test_a_first_load_of_several_calls_is_not_looked_at_as_changed(database, bucket, log_lines):
    place = Place(database, bucket, ["thing"], {}, batch_rows=2, with_changes=True)
    write(place, SCHEMA, INSERT, INSERT, INSERT)
    assert run_for(place, 3)["more"]
    write(place, update(1))
    place.run()
    assert changed(place) == [[1]]
    assert warnings(log_lines) == []
    place.check()


@pytest.mark.long
def test_one_table_that_is_gone_stops_no_other_ones_changes(totesys, bucket):
    place = Place(totesys, bucket, TABLES, {}, with_changes=True)
    place.run()
    write(
        place,
        "ALTER TABLE department RENAME TO departments",
        "UPDATE design SET file_location = '/new' WHERE design_id = 8",
    )
    with pytest.raises(IngestionError) as failure:
        place.run()
    assert list(failure.value.failures) == ["department"]
    assert place.bucket.get(keys.format_change_key(Table("design"), 1)) is not None


# Batches and time.


def test_objects_are_no_larger_than_a_batch(place):
    write(place, INSERT, INSERT, INSERT)
    place.run()
    write(place, "UPDATE thing SET paid = true")
    small = in_batches_of(place, 5)
    summary = small.run()["tables"]["thing"]
    assert (summary["changes"], summary["changes_key"]) == (
        12,
        keys.format_change_key(Table("thing"), 3),
    )
    assert changed(small) == [[1, 2, 3, 4, 5], [6, 7, 8, 9, 10], [11, 12]]
    write(place, update(1), update(12))
    small.run()
    assert changed(small)[3:] == [[1, 12]]  # of two stretches
    small.check()


def test_a_scan_goes_on_in_the_next_call(place):
    write(place, INSERT, INSERT, INSERT)
    place.run()
    write(place, "UPDATE thing SET paid = true")
    small = in_batches_of(place, 4)
    assert run_for(small, 1)["more"]
    assert changed(small) == [[1, 2, 3, 4]]
    write(place, update(1), update(11))
    assert run_for(small, 1)["more"]
    assert not small.run()["more"]
    assert changed(small) == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    small.run()  # from the mark of the scan that took three calls
    assert changed(small)[3:] == [[1, 11]]
    small.check()


def test_without_time_no_look_for_changes_is_begun(place):
    write(place, update(1))
    assert run_within(place, Limits(seconds_left=lambda: 0.0))["more"]
    assert content(place.bucket) == place.before
    place.run()
    assert changed(place) == [[1]]


def test_a_batch_that_used_up_the_time_is_not_followed_by_a_scan(place):
    write(place, INSERT, update(1))
    left = [1.0] * 2  # a look at the clock for the step, and one for the wait for writers
    summary = run_within(place, Limits(seconds_left=lambda: left.pop() if left else 0.0))
    assert (summary["rows"], summary["more"]) == (3, True)
    assert changed(place) == []
    place.run()
    assert changed(place) == [[1, 4, 5, 6]]  # what landed without a scan is delivered again


def test_a_scan_that_is_no_proof_of_its_mark_does_not_go_on_in_the_next_call(place):
    """Rows are held back, so what lands above the watermark may be older than the mark."""
    write(place, INSERT)
    place.run()
    done = state(place)["done"]
    writer = place.database.connect()
    writer.run("BEGIN; INSERT INTO thing DEFAULT VALUES")
    write(place, INSERT, "UPDATE thing SET paid = true")
    left = [1.0] * 3  # a look at the clock for the step, the wait for writers, and the stretch
    limits = Limits(4, writer_wait_seconds=0, seconds_left=lambda: left.pop() if left else 0.0)
    summary = run_within(place, limits)
    assert summary["tables"]["thing"]["held_back_rows"] == 3
    assert not summary["more"]  # or the state machine would call for the same stretch for ever
    assert changed(place) == [[1, 2, 3, 4]]
    assert (state(place)["scan"], state(place)["done"]) == (None, done)
    writer.run("COMMIT")
    place.run()
    check_both(place)


def test_a_scan_that_goes_on_is_done_even_if_rows_are_held_back_by_now(place):
    write(place, INSERT)
    place.run()
    write(place, "UPDATE thing SET paid = true")
    small = in_batches_of(place, 4)
    assert run_for(small, 1)["more"]
    begun = state(place)["scan"]["mark"]
    writer = place.database.connect()
    writer.run("BEGIN; INSERT INTO thing DEFAULT VALUES")
    write(place, INSERT)
    summary = run_within(place, Limits(4, writer_wait_seconds=0))
    assert summary["tables"]["thing"]["held_back_rows"] == 3
    assert (state(place)["scan"], state(place)["done"]) == (None, begun)
    writer.run("COMMIT")
    place.run()
    check_both(place)


@pytest.mark.long
def test_a_table_that_takes_longer_than_a_call_does_not_starve(place):
    """However often it is written to."""
    write(place, INSERT, INSERT, INSERT)
    place.run()
    small = in_batches_of(place, 1)
    for _ in range(14):
        write(place, "UPDATE thing SET name = name || '!'")
        run_for(small, 1)
    assert {row_id for ids in changed(small) for row_id in ids} == set(range(1, 13))


@pytest.mark.long
def test_a_table_that_takes_long_does_not_starve_others(totesys, bucket):
    place = Place(totesys, bucket, ["payment", "design"], {}, with_changes=True)
    place.run()
    write(place, "UPDATE payment SET paid = true", "UPDATE design SET file_name = 'x.json'")
    left = [1.0] * 30
    limits = Limits(5, seconds_left=lambda: left.pop() if left else 0.0)
    run_within(place, limits)
    for table in place.tables:
        assert bucket.get(keys.format_change_key(Table(table), 5)) is not None


def test_objects_of_long_rows_are_bounded_too(place, monkeypatch):
    """Rows kept aside (TOAST), by statements that read a part, and stretches that are short."""
    write(place, *[INSERT] * 5)
    place.run()
    for module in ("shared.postgres.reader", "services.ingestion.change_scan"):
        monkeypatch.setattr(f"{module}.BATCH_BYTES", 30_000)
    for module in ("shared.postgres.reader", "shared.postgres.statement"):
        monkeypatch.setattr(f"{module}.STATEMENT_BYTES", 9_000)
    # Of what can't be compressed.
    noise = "SELECT string_agg(md5(thing_id || n::text), '') FROM generate_series(1, 280) AS n"
    write(place, f"UPDATE thing SET name = ({noise})")
    for rows in (1, 50):
        before = len(changed(place))
        in_batches_of(place, rows).run()
        objects = content(place.bucket)
        stream = sorted(key for key in objects if keys.is_change_key(key))[before:]
        assert len(stream) >= 5
        # A read ends with the row that goes beyond it.
        assert all(len(objects[key][0]) < 30_000 + 2 * 9_100 for key in stream)
        write(place, "UPDATE thing SET paid = NOT paid")
    place.run()
    check_both(place)


def test_a_table_may_be_called_like_anything_in_our_statements(database, bucket):
    names = ["t", "ids", "batch", "measured", "family"]
    place = Place(database, bucket, names, {}, with_changes=True)
    for name in names:
        write(place, f'CREATE TABLE "{name}" ({name}_id serial, t text, ids int, id int)')
        write(place, f'INSERT INTO "{name}" (t) VALUES (1), (2)')
    place.run()
    write(place, *(f'UPDATE "{name}" SET t = 3, ids = 4 WHERE {name}_id = 2' for name in names))
    summary = place.run()
    assert {done["changes"] for done in summary["tables"].values()} == {1}
    place.check()


# What is remembered, lost, and not to be compared.


def test_lost_state_is_healed_from_the_objects(place, log_lines):
    write(place, update(1))
    place.run()
    write(place, update(2))
    place.run()
    key = keys.format_change_latest_key(Table("thing"))
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    write(place, update(3))
    place.run()
    # What the last object was read from is known: since then 2 has changed, and 3.
    assert changed(place) == [[1], [2], [2, 3]]
    assert not warnings(log_lines)
    assert state(place)["sequence"] == 3
    check_both(place)


@pytest.mark.long
def test_an_older_state_makes_versions_come_again(place):
    older = place.bucket.get(keys.format_change_latest_key(Table("thing"))).body
    for row_id in (1, 2):
        write(place, update(row_id))
        place.run()
    key = keys.format_change_latest_key(Table("thing"))
    place.bucket.client.put_object(Bucket=place.bucket.name, Key=key, Body=older)
    write(place, update(3))
    place.run()
    assert changed(place) == [[1], [2], [1, 2, 3]]


NO_MARK = {"snapshot": "7:9:5", "history": "", "writes": "", "at": 0}  # 5 was over by then
NO_STATES = [
    b"",
    b"{}",
    b"[]",
    b'{"sequence": 1, "done": 7, "scan": null}',
    json.dumps({"sequence": 1, "done": NO_MARK, "scan": None}).encode(),
]


def test_a_state_of_somebody_elses_is_an_error(place):
    key = keys.format_change_latest_key(Table("thing"))
    for body in NO_STATES:
        place.bucket.client.put_object(Bucket=place.bucket.name, Key=key, Body=body)
        with pytest.raises(IngestionError, match="is not a valid latest"):
            place.run()
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    write(place, update(1))
    place.run()
    check_both(place)


def test_a_table_made_anew_is_looked_at_as_a_whole(place, log_lines):
    write(
        place,
        "CREATE TABLE other AS TABLE thing",
        "DROP TABLE thing",
        "ALTER TABLE other RENAME TO thing",
    )
    place.run()
    assert changed(place) == [[1, 2, 3]]
    [warning] = warnings(log_lines)
    assert "created again" in warning["because"]
    place.run()
    assert len(changed(place)) == 1


def remembered(place, **fields):
    """Let the place remember another past."""
    said = state(place)
    for mark in (said["done"], (said["scan"] or {}).get("mark", {})):
        mark |= fields
    body = json.dumps(said).encode()
    key = keys.format_change_latest_key(Table("thing"))
    place.bucket.client.put_object(Bucket=place.bucket.name, Key=key, Body=body)


def test_a_scan_does_not_go_on_after_a_crash_of_the_server(place, log_lines):
    """What it has looked at may have changed under ids of transactions that it takes for old."""
    write(place, INSERT)
    place.run()
    write(place, "UPDATE thing SET paid = true")
    small = in_batches_of(place, 4)
    assert run_for(small, 1)["more"]
    remembered(place, history="before the crash")
    write(place, update(1))
    assert not small.run()["more"]
    assert "crashed" in warnings(log_lines)[0]["because"]
    assert changed(place) == [[1, 2, 3, 4], [1, 2, 3, 4], [5, 6]]
    check_both(place)
    small.run()
    assert len(changed(place)) == 3


@pytest.mark.parametrize(
    ("snapshot", "because"),
    [("9000000000:9000000000:", "went back"), ("3:3:", None)],
)
def test_ids_of_transactions_that_are_still_to_come(place, log_lines, snapshot, because):
    remembered(place, snapshot=snapshot, writes="")
    place.run()
    assert [warning["because"] for warning in warnings(log_lines) if because is None] == []
    if because:
        assert because in warnings(log_lines)[0]["because"]
    assert changed(place) == [[1, 2, 3]]
    place.run()
    assert changed(place) == [[1, 2, 3]]


@pytest.mark.long
def test_the_survey_reads_no_table_if_not_asked_to(place):
    session = place.database.connect("reader")
    seen = read_survey([Table("thing"), Table("missing")], session, with_ids=False)
    assert seen.highest_ids == {}
    assert seen.marks["thing"].xmin <= seen.marks["thing"].xmax
    assert abs(seen.marks["thing"].at - time.time()) < 60
