"""Tables that fail: they stop no other, each is named, and what they missed lands later."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace

import pytest

from services.ingestion import run
from services.ingestion import table as table_module
from services.ingestion.land import land_rows
from shared import errors
from shared.errors import IngestionError, TransientIngestionError
from tests.helpers.faults.s3 import faulty_s3, refused
from tests.helpers.oracle import landed
from tests.helpers.runs.place import Place, without_retries

pytestmark = pytest.mark.thorough

TABLES = ("first", "second", "third", "fourth")
INSERT = "INSERT INTO {table} DEFAULT VALUES"


@pytest.fixture
def place(database, bucket):
    """Four tables of which one row each has landed, and one has not."""
    connection = database.connect()
    for table in TABLES:
        connection.run(f"CREATE TABLE {table} ({table}_id serial PRIMARY KEY, name text)")
        connection.run(INSERT.format(table=table))
    place = Place(database, bucket, TABLES, {}, statement_timeout_seconds=1)
    place.run()
    for table in TABLES:
        connection.run(INSERT.format(table=table))
    return place.now()


@contextmanager
def repaired_after(place, fault, repair):
    connection = place.database.connect()
    connection.run(fault)
    yield
    connection.run(repair)


def no_permission(place, table):
    return repaired_after(
        place,
        f"REVOKE SELECT ON {table} FROM reader",
        f"GRANT SELECT ON {table} TO reader",
    )


def gone(place, table):
    return repaired_after(
        place, f"ALTER TABLE {table} RENAME TO away", f"ALTER TABLE away RENAME TO {table}"
    )


def without_id_column(place, table):
    return repaired_after(
        place,
        f"ALTER TABLE {table} RENAME {table}_id TO id",
        f"ALTER TABLE {table} RENAME id TO {table}_id",
    )


@contextmanager
def locked(place, table):
    """As by a long migration: asking for anything of the table times out."""
    connection = place.database.connect()
    connection.run("BEGIN")
    connection.run(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
    yield
    connection.run("COMMIT")


@contextmanager
def spoilt_state(place, table):
    key = f"{table}/latest.json"
    client, name = place.bucket.client, place.bucket.name
    client.put_object(Bucket=name, Key=key, Body=b"{")
    yield
    client.put_object(Bucket=name, Key=key, Body=place.before[key][0])


FAULTS = {
    "no permission": (no_permission, r"SourceError: .*42501.* GRANT"),
    "gone": (gone, r"SourceError: There is no table .* Restore it"),
    "no id column": (without_id_column, r"SourceError: .* has no integer column .* Restore"),
    "locked": (locked, r"SourceUnavailableError: .*55P03"),
    "spoilt state": (spoilt_state, r"StateError: .* Restore"),
}


def lands_what_was_missed(place):
    place.run()
    place.check()


@pytest.mark.parametrize(("fault", "message"), FAULTS.values(), ids=FAULTS)
def test_a_failing_table_stops_no_other(place, fault, message, log_lines):
    with (
        fault(place, "second"),
        pytest.raises(IngestionError, match=rf"^1 table\(s\) failed. second: {message}") as failure,
    ):
        place.run()
    assert list(failure.value.failures) == ["second"]
    [line] = [line for line in log_lines() if "reason" in line]
    assert line["table"] == "second"
    # An alarm waits for ERROR lines; a retry may fix what is transient.
    assert line["level"] == ("WARNING" if failure.value.transient else "ERROR")
    ingested = [line["table"] for line in log_lines() if line["message"] == "Table ingested"]
    assert set(ingested) == {*TABLES} - {"second"}
    for table in TABLES:
        assert landed.ids(place.bucket, table) == ([1] if table == "second" else [1, 2])
    lands_what_was_missed(place)


def test_the_error_is_transient_if_every_failure_is(place, aws_endpoint):
    def busy_with_fourth(request):
        return refused(503, "SlowDown") if "/fourth/" in request.path else None

    with faulty_s3(aws_endpoint) as proxy, locked(place, "first"):
        proxy.choose = busy_with_fourth
        with pytest.raises(TransientIngestionError) as failure:
            place.run(endpoint_url=proxy.url, config=without_retries())
    assert set(failure.value.failures) == {"first", "fourth"}
    lands_what_was_missed(place)


def test_the_error_is_not_transient_if_one_failure_is_not(place):
    with (
        locked(place, "first"),
        gone(place, "third"),
        spoilt_state(place, "fourth"),
        pytest.raises(IngestionError, match=r"^3 table\(s\) failed") as failure,
    ):
        place.run()
    assert set(failure.value.failures) == {"first", "third", "fourth"}
    assert not failure.value.transient
    assert landed.ids(place.bucket, "second") == [1, 2]
    lands_what_was_missed(place)


def test_all_tables_fail(place):
    lost = replace(place, bucket=replace(place.bucket, name="not-there-at-all"))
    with pytest.raises(IngestionError, match="NoSuchBucket") as failure:
        lost.run()
    assert set(failure.value.failures) == set(TABLES)
    lands_what_was_missed(place)


def test_an_assertion_of_a_library_fails_its_table_only_and_is_not_quoted(place, monkeypatch):
    def insisting(position, *arguments):
        assert position.table.name != "second", "value 'Jane Doe'"
        return land_rows(position, *arguments)

    monkeypatch.setattr(table_module, "land_rows", insisting)
    monkeypatch.setattr(run, "explained", errors.explained)  # as it is outside of tests
    with pytest.raises(IngestionError, match="second: PipelineError: Unexpected Assert") as failure:
        place.run()
    assert "Jane" not in str(failure.value)
    assert [landed.ids(place.bucket, each) for each in TABLES] == [[1, 2], [1], [1, 2], [1, 2]]
