"""The line of each table in a run's log: what alarms and the dashboard live on."""

from __future__ import annotations

import json

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext

from local import totesys as totesys_database
from services.ingestion.handler import lambda_handler
from shared.bucket import keys
from shared.errors import IngestionError
from shared.tables import TABLES
from tests.helpers.faults.stage_faults import NEW_ADDRESS

pytestmark = pytest.mark.thorough

SOME_TABLES = ("payment", "staff", "department", "address")


class Context(LambdaContext):
    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 240_000


CONTEXT = Context()


@pytest.fixture
def run(log_lines, totesys, bucket, aws, monkeypatch):
    """Runs the handler and returns the line of each table."""
    secret = f"{bucket.name}/totesys"
    aws("secretsmanager").create_secret(Name=secret, SecretString=json.dumps(totesys.secret))
    for name, value in {
        "BUCKET_NAME": bucket.name,
        "DB_SECRET_ID": secret,
        "DB_CA_FILE": "shared/rds-ca/eu-west-2.pem",
        "WRITER_WAIT_SECONDS": "0",
        "POWERTOOLS_SERVICE_NAME": "ingestion",
    }.items():
        monkeypatch.setenv(name, value)

    def run_and_read(tables=SOME_TABLES, fails=()):
        event, before = {"tables": list(tables)}, len(log_lines())
        if fails:
            with pytest.raises(IngestionError):
                lambda_handler(event, CONTEXT)
        else:
            lambda_handler(event, CONTEXT)
        ingested = [line for line in log_lines()[before:] if line["message"] == "Table ingested"]
        return {line["table"]: line for line in ingested}

    return run_and_read


def test_a_run_tells_rows_and_bytes_by_table(run):
    found = run(TABLES)
    assert found.keys() == {*TABLES}
    for line in found.values():
        assert line["rows"] > 0
        assert line["bytes"] > 0


def test_a_run_tells_changes_and_repeats_by_table(run, totesys):
    run()
    session, other = totesys.connect(), totesys.connect()
    change = "UPDATE payment SET paid = NOT paid WHERE payment_id = {}"
    session.run("BEGIN; SELECT pg_current_xact_id()")
    for repeated, row_id in enumerate((1, 2)):
        other.run(f"{change.format(row_id)}; SELECT pg_stat_force_next_flush()")
        found = run()
        told = {table: line["changes"] for table, line in found.items() if line["changes"]}
        assert told == {"payment": repeated + 1}
        assert found["payment"]["changes_repeated"] == repeated


def test_an_idle_run_tells_that_nothing_was_new(run):
    run()
    for line in run().values():
        figures = ("rows", "bytes", "changes", "held_back_rows", "watermark_age_seconds")
        assert {line[name] for name in figures} == {0}


def test_a_table_that_fails_does_not_silence_the_others(run, totesys):
    totesys.connect().run("ALTER TABLE staff RENAME TO stuff")
    found = run(fails=["staff"])
    assert "staff" not in found
    assert found["address"]["rows"] == 30


def later(monkeypatch, seconds):
    """Let watermarks be so much older."""
    since = keys.seconds_since
    monkeypatch.setattr(keys, "seconds_since", lambda text: since(text) + seconds)


def test_a_watermark_ages_while_rows_wait_and_it_stands_still(run, totesys, monkeypatch):
    run()
    writer, other = totesys.connect(), totesys.connect()
    other.run(NEW_ADDRESS)
    writer.run("BEGIN")
    writer.run(NEW_ADDRESS)
    other.run(NEW_ADDRESS)
    later(monkeypatch, 3600)
    moved = run()
    assert moved["address"]["rows"] == 1
    assert moved["address"]["held_back_rows"] == 1
    assert moved["address"]["watermark_age_seconds"] == 0
    still = run()
    assert still["address"]["held_back_rows"] == 1
    assert 3600 < still["address"]["watermark_age_seconds"] < 3700
    writer.run("COMMIT")
    landed = run()
    assert landed["address"]["rows"] == 2
    assert landed["address"]["held_back_rows"] == landed["address"]["watermark_age_seconds"] == 0


def test_a_quiet_weekend_is_no_age(run, totesys, monkeypatch):
    run()
    later(monkeypatch, 60 * 3600)
    assert {line["watermark_age_seconds"] for line in run().values()} == {0}
    totesys_database.add_events(totesys.connect(), 1)
    assert {line["watermark_age_seconds"] for line in run().values()} == {0}


def test_rows_of_a_table_that_never_landed_wait_too(run, totesys):
    writer, other = totesys.connect(), totesys.connect()
    writer.run("TRUNCATE address RESTART IDENTITY CASCADE")
    writer.run("BEGIN")
    writer.run(NEW_ADDRESS)
    other.run(NEW_ADDRESS)
    found = run()
    assert found["address"]["held_back_rows"] == 1
    assert found["address"]["watermark_age_seconds"] == 1
