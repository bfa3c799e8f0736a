"""A claimed batch lands in parts, through a file: whole, once, and in little memory."""

from __future__ import annotations

import json
import tracemalloc
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import boto3
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from services.ingestion import claimed
from services.ingestion.claimed import land_claimed
from shared.bucket import keys
from shared.bucket.bucket import Bucket, Landed
from shared.clients import s3_client
from shared.contracts.check import Inspector
from shared.errors import ConfigError, IngestionError, LandingError, SourceUnavailableError
from shared.jsonlines import render
from shared.personal import NONE
from shared.postgres.reader import read_settled_parts, read_settled_rows
from shared.tables import Table
from tests.helpers.faults import s3 as faults
from tests.helpers.faults.kills import killed_at, steps_of
from tests.helpers.faults.s3 import faulty_s3
from tests.helpers.faults.steps import on_every_step
from tests.helpers.models.scripted import s3_error
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content
from tests.helpers.runs.place import Place
from tests.helpers.writers.pg_tables import tables
from tests.helpers.writers.pg_types import SCHEMA

pytestmark = pytest.mark.thorough

THING = Table("thing")
KEY = "thing/40-2024-11-11T15-03-24.jsonl"
CREATE = "CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)"
INSERT = "INSERT INTO thing (name) SELECT 'new' FROM generate_series(1, 40)"
GROW = "UPDATE thing SET name = repeat('é', 100)"  # which take more than one statement, see `small`


@pytest.fixture
def small(monkeypatch):
    """Let a statement read two hundred bytes or so."""
    for module in ("reader", "statement"):
        monkeypatch.setattr(f"shared.postgres.{module}.STATEMENT_BYTES", 200)


@pytest.fixture
def place(database, bucket, small):
    """A table of which nothing has landed."""
    place = Place(database, bucket, ["thing"], {})
    place.execute(CREATE, INSERT)
    return place


@pytest.fixture
def grown(place):
    """All of it was claimed by a run that died, and has grown since."""
    place.die_after_claiming()
    place.execute(GROW)
    return place.now()


def land(place, client=None, step=None):
    client = client or boto3.client("s3")
    bucket = Bucket(client, place.bucket.name)
    with closing(place.session()) as session:
        if step:
            on_every_step(client, session, step)
        return land_claimed(
            THING, 0, KEY, session, bucket, inspector=Inspector(THING), personal=NONE
        )


def claimed_key(place):
    [claim] = place.bucket.keys("claims/thing/")
    return json.loads(place.bucket.get(claim).body)["key"]


def at_once(place):
    """Return the lines of a claimed batch as they are if it is read and rendered as a whole."""
    with closing(place.session()) as session:
        return render(read_settled_rows(THING, 0, 40, session).rows)


def check_landed(place, lines):
    found = place.bucket.get(KEY)
    assert (found.body, found.metadata) == (lines.body, {"rows": str(lines.rows)})


def statements(place):
    """Return how many statements read the batch."""
    with closing(place.session()) as session:
        return len([*read_settled_parts(THING, 0, 40, session, personal=NONE)])


def test_in_parts_it_is_byte_for_byte_what_it_is_at_once(place):
    place.execute(GROW, "DELETE FROM thing WHERE thing_id IN (1, 7, 40)")
    lines = at_once(place)
    assert statements(place) > 20
    assert land(place) == Landed(KEY, 37, len(lines.body))
    check_landed(place, lines)


@pytest.mark.usefixtures("small")
def test_any_rows_of_any_types_some_of_which_share_an_id(database, bucket):
    writer = database.connect()
    writer.run(SCHEMA)
    place = Place(database, bucket, ["thing"], {})

    @settings(
        max_examples=15,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(tables(most_columns=4), st.integers(1, 4), st.integers(0, 6))
    def test(table, share, above):
        table = replace(table, name="thing", rows=table.rows * 4)
        table = replace(table, columns=[each for each in table.columns if each.name != "thing_id"])
        bucket.client.delete_object(Bucket=bucket.name, Key=KEY)
        table.create(writer)
        try:
            table.insert(writer)
            writer.run("ALTER TABLE thing DROP CONSTRAINT thing_pkey")
            writer.run(f"UPDATE thing SET thing_id = (thing_id + {above}) / {share}")
            done = land(place)
            lines = at_once(place)
        finally:
            table.drop(writer)
        assert done == Landed(KEY, lines.rows, len(lines.body))
        found = bucket.get(KEY).body
        # Rows that share an id have no order of their own.
        assert sorted(found.splitlines()) == sorted(lines.body.splitlines())
        if share == 1:
            assert found == lines.body

    test()


def test_rows_that_share_an_id_are_not_parted_by_a_part(place):
    place.execute("ALTER TABLE thing DROP CONSTRAINT thing_pkey", GROW)
    for shared in (2, 3, 40):
        place.execute(f"UPDATE thing SET thing_id = 1 + thing_id / {shared}")
        lines = at_once(place)
        assert land(place).rows == lines.rows == 40
        assert sorted(place.bucket.get(KEY).body.splitlines()) == sorted(lines.body.splitlines())
        place.bucket.client.delete_object(Bucket=place.bucket.name, Key=KEY)


@pytest.mark.parametrize(("deleted", "left"), [("thing_id > 3", 3), ("thing_id > 0", 0)])
def test_rows_that_were_deleted_since_are_no_fault(grown, deleted, left):
    key = claimed_key(grown)
    grown.execute(f"DELETE FROM thing WHERE {deleted}", INSERT)
    assert grown.run()["rows"] == left + 40
    assert grown.bucket.metadata(key) == {"rows": str(left)}
    assert landed.ids(grown.bucket, "thing") == [*range(1, left + 1), *range(41, 81)]
    latest = landed.latest(grown.bucket, "thing")
    assert (latest["latest_row_id"], latest["rows_ingested"]) == (80, 40)


# --- who comes late ---


def test_an_object_that_exists_costs_one_request_and_no_statement(place):
    place.bucket.create(KEY, b"theirs\n")
    steps: list[str] = []
    assert land(place, step=steps.append) is None
    assert [step.split()[1] for step in steps] == ["HeadObject", "HeadObject"]
    assert place.bucket.get(KEY).body == b"theirs\n"


def test_an_object_that_appears_meanwhile_is_left_alone(place):
    def step(words):
        if words.startswith("before PutObject"):
            place.bucket.create(KEY, b"theirs\n")

    assert land(place, step=step) is None
    assert place.bucket.get(KEY).body == b"theirs\n"


@pytest.mark.parametrize(
    "moment", [("HeadObject", 2), ("PutObject", 1)], ids=["before it looks", "before it lands"]
)
def test_a_run_that_adopts_goes_on_behind_what_another_one_lands_meanwhile(grown, moment):
    grown.execute(INSERT)
    operation, number = moment
    came = count(1)
    others: list[Any] = []

    def step(words):
        is_there = words.startswith(f"before {operation}") and "/thing/40-" in words
        if not others and is_there and next(came) == number:
            others.append(grown.run)
            others.append(grown.run())

    summary = grown.run(step)
    assert (summary["rows"], others[1]["rows"]) == (0, 80)
    grown.check()


def test_it_asks_before_it_sends_a_file(place, aws_endpoint):
    """So S3 may refuse it after the headers, and not after a gigabyte."""
    sent: list[str | None] = []
    with faulty_s3(aws_endpoint) as proxy:
        proxy.choose = lambda request: sent.append(request.headers.get("Expect"))
        land(place, boto3.client("s3", endpoint_url=proxy.url))
    assert sent == [None, "100-continue"]


# --- what fails ---


def kill_at_every(stride, place):
    steps = steps_of(place)
    assert len(steps) > 80  # most of them between two parts
    for point in range(0, len(steps), stride):
        attempt = place.again()
        assert killed_at(attempt, point), steps[point]
        attempt.run()
        attempt.check()


@pytest.mark.usefixtures("one_step_at_a_time")
def test_death_between_two_parts_loses_and_doubles_nothing(grown):
    kill_at_every(37, grown)


@pytest.mark.long
@pytest.mark.usefixtures("one_step_at_a_time")
def test_death_at_any_step_loses_and_doubles_nothing(grown):
    kill_at_every(1, grown)


FAULTS = {
    "refused": faults.refused(503, "SlowDown"),
    "reset": faults.reset,
    "applied, then 500": faults.applied_then_failed,
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_retry_of_the_client_sends_the_file_from_its_beginning(
    place, name, aws_endpoint, monkeypatch
):
    monkeypatch.setattr("botocore.endpoint.time", SimpleNamespace(sleep=lambda _: None))
    place.execute(GROW)
    lines, puts = at_once(place), []

    def choose(request):
        if request.method != "PUT":
            return None
        puts.append(request.body)
        return FAULTS[name] if len(puts) == 1 else None

    with faulty_s3(aws_endpoint) as proxy:
        proxy.choose = choose
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy.url)
        s3_client.cache_clear()
        done = land(place, s3_client())
    # It does not know then that the object is its own, which does no harm.
    assert (done is None) == (name == "applied, then 500")
    assert len(puts) == 2
    assert puts[1] == lines.body
    check_landed(place, lines)


def test_storage_that_is_full_names_the_parameter_and_fails_that_table_only(grown, monkeypatch):
    both, key = replace(grown, tables=["thing", "other"]), claimed_key(grown)
    both.execute("CREATE TABLE other (other_id serial PRIMARY KEY)", "INSERT INTO other VALUES (1)")
    with monkeypatch.context() as patch:
        patch.setattr(claimed, "TemporaryFile", partial(Path("/dev/full").open, "w+b"))
        with pytest.raises(IngestionError, match="1 table") as failed:
            both.run()
    error = failed.value.failures["thing"]
    assert type(error) is ConfigError
    assert str(error) == (
        f"{key} of 'thing' does not fit into the function's temporary storage. Raise "
        "storageMegabytes in serverless.yml, and deploy."
    )
    assert key not in content(both.bucket)
    both.run()
    both.check()


def test_other_faults_of_the_storage_are_not_called_full(place, monkeypatch):
    monkeypatch.setattr(claimed, "TemporaryFile", partial(Path("/dev/null").open, "rb"))
    with pytest.raises(OSError, match="write"):
        land(place)


def test_more_than_s3_takes_at_once_is_refused_before_it_is_sent(place, monkeypatch):
    place.execute(GROW)
    size = len(at_once(place).body)
    monkeypatch.setattr(claimed, "MOST_BYTES", size - 1)
    steps: list[str] = []
    with pytest.raises(
        LandingError,
        match=r"'thing' that claims/thing/0\.json covers have grown to more than the 5 GB.*"
        rf"{KEY} can't land\. Shorten their longest values",
    ):
        land(place, step=steps.append)
    assert not [step for step in steps if "PutObject" in step]
    monkeypatch.setattr(claimed, "MOST_BYTES", size)
    assert land(place).bytes == size


def test_a_table_that_is_declared_anew_between_two_parts_is_read_again(grown):
    """Or some lines of an object would have a column that others lack."""
    reads: list[str] = []

    def step(words):
        if words.startswith("after WITH"):
            reads.append(words)
            if len(reads) == 5:
                grown.execute("ALTER TABLE thing ADD COLUMN more int")

    with pytest.raises(IngestionError, match="declared anew") as failed:
        grown.run(step)
    assert isinstance(failed.value.failures["thing"], SourceUnavailableError)
    assert content(grown.bucket) == grown.before
    grown.run()
    assert b'"more":null}' in grown.bucket.get(claimed_key(grown)).body
    grown.check()


def test_what_breaks_the_contract_is_said_once_and_before_it_lands(
    totesys, bucket, small, log_lines
):
    place = Place(totesys, bucket, ["staff"], {})
    place.execute("ALTER TABLE staff ALTER email_address DROP NOT NULL")
    place.execute("UPDATE staff SET email_address = NULL WHERE staff_id > 2")
    place.die_after_claiming()
    before = len(log_lines())
    steps: list[str] = []

    def said():
        return [line for line in log_lines()[before:] if line["level"] == "ERROR"]

    def step(words):
        steps.append(words)
        if words.startswith("before PutObject") and "/staff/20-" in words:
            assert len(said()) == 1

    assert place.run(step)["tables"]["staff"]["contract_violations"] == 1
    assert len([step for step in steps if step.startswith("before WITH")]) > 3
    [line] = said()
    assert (line["column"], line["kind"]) == ("email_address", "nullability")


# --- memory ---


class Swallow:
    """A client of S3 that keeps nothing of what is put."""

    def __init__(self) -> None:
        self.bytes = 0

    def head_object(self, **_):
        raise s3_error("404", 404)

    def put_object(self, *, Body, **_):
        while chunk := Body.read(100_000):
            self.bytes += len(chunk)
        return {"ETag": ""}


def peak_of(place, rows):
    """Return how many bytes are landed of rows of 20 kB, and how many were held at most."""
    place.execute("TRUNCATE thing")
    place.execute(
        f"INSERT INTO thing SELECT n, repeat('x', 20000) FROM generate_series(1, {rows}) AS n"
    )
    client: Any = Swallow()
    with closing(place.session()) as session:
        tracemalloc.start()
        try:
            key = keys.format_data_key(THING, rows, keys.timestamp_now())
            land_claimed(
                THING, 0, key, session, Bucket(client, "bucket"),
                inspector=Inspector(THING), personal=NONE,
            )  # fmt: skip
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    return client.bytes, peak


def test_a_batch_of_any_size_takes_the_memory_of_a_small_one(place, monkeypatch):
    for module in ("reader", "statement"):
        monkeypatch.setattr(f"shared.postgres.{module}.STATEMENT_BYTES", 200_000)
    peak_of(place, 100)  # what is only made once
    few, some = peak_of(place, 100)
    many, most = peak_of(place, 1_000)
    assert many > 9 * few
    print(f"{few:,} bytes: peak {some:,}; {many:,} bytes: peak {most:,}")
    assert most < 1.2 * some < many / 4
