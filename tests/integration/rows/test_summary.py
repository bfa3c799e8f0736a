"""What a run emits: what alarms and the dashboard live on, and nothing that says nothing."""

from __future__ import annotations

import json

import pytest
from aws_lambda_powertools.utilities.typing import LambdaContext

from local import totesys as totesys_database
from local.aws.function_log import emitted
from services.ingestion.handler import lambda_handler
from shared.bucket import keys
from shared.errors import IngestionError
from shared.tables import TABLES
from tests.helpers.faults.stage_faults import NEW_ADDRESS

pytestmark = pytest.mark.thorough

OF_STAGE = {"ContractViolations", "HeldBackRows", "WatermarkAgeSeconds", "Heartbeat", "RunSeconds"}
SOME_TABLES = ("payment", "staff", "department", "address")


class Context(LambdaContext):
    @staticmethod
    def get_remaining_time_in_millis() -> int:
        return 240_000


CONTEXT = Context()


@pytest.fixture
def run(log_lines, totesys, bucket, aws, monkeypatch, capsys):
    """Runs the handler and returns what it emitted, by metric and table."""
    secret = f"{bucket.name}/totesys"
    aws("secretsmanager").create_secret(Name=secret, SecretString=json.dumps(totesys.secret))
    for name, value in {
        "BUCKET_NAME": bucket.name,
        "STAGE": "test",
        "DB_SECRET_ID": secret,
        "DB_CA_FILE": "shared/rds-ca/eu-west-2.pem",
        "WRITER_WAIT_SECONDS": "0",
        "POWERTOOLS_SERVICE_NAME": "ingestion",
        "POWERTOOLS_METRICS_NAMESPACE": "Totesys",
    }.items():
        monkeypatch.setenv(name, value)

    def run_and_read(tables=SOME_TABLES, fails=()):
        event = {"tables": list(tables)}
        if fails:
            with pytest.raises(IngestionError):
                lambda_handler(event, CONTEXT)
        else:
            lambda_handler(event, CONTEXT)
        lines = capsys.readouterr().out.splitlines()
        found = [metric for line in lines for metric in emitted(line)]
        assert {metric.dimensions["stage"] for metric in found} == {"test"}
        return {(each.name, each.dimensions.get("table")): each.value for each in found}

    return run_and_read


def test_a_run_emits_rows_and_bytes_by_table(run):
    found = run(TABLES)
    for table in TABLES:
        assert found["RowsIngested", table] > 0
        assert found["BytesIngested", table] > 0
    assert {name for name, table in found if table is None} == OF_STAGE


def test_a_run_emits_changes_and_repeats_by_table(run, totesys):
    run()
    session, other = totesys.connect(), totesys.connect()
    change = "UPDATE payment SET paid = NOT paid WHERE payment_id = {}"
    session.run("BEGIN; SELECT pg_current_xact_id()")
    for repeated, row_id in enumerate((1, 2)):
        other.run(f"{change.format(row_id)}; SELECT pg_stat_force_next_flush()")
        found = run()
        assert found["ChangesLanded", "payment"] == repeated + 1
        assert found["ChangesRepeated", "payment"] == repeated
    assert {table for _, table in found} == {"payment", None}
    assert {name for name, table in found if table is None} == OF_STAGE


def test_an_idle_run_emits_nothing_by_table(run):
    run()
    found = run()
    assert {name for name, _ in found} == OF_STAGE
    assert {table for _, table in found} == {None}
    assert found["Heartbeat", None] == 1
    for name in ("ContractViolations", "HeldBackRows", "WatermarkAgeSeconds"):
        assert found[name, None] == 0


def test_a_table_that_fails_does_not_silence_the_others(run, totesys):
    totesys.connect().run("ALTER TABLE staff RENAME TO stuff")
    found = run(fails=["staff"])
    assert ("RowsIngested", "staff") not in found
    assert found["RowsIngested", "address"] == 30
    assert found["WatermarkAgeSeconds", None] == 0
    assert found["Heartbeat", None] == 1


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
    assert moved["RowsIngested", "address"] == 1
    assert moved["HeldBackRows", "address"] == moved["HeldBackRows", None] == 1
    assert moved["WatermarkAgeSeconds", "address"] == moved["WatermarkAgeSeconds", None] == 0
    still = run()
    assert still["HeldBackRows", None] == 1
    assert 3600 < still["WatermarkAgeSeconds", "address"] < 3700
    assert still["WatermarkAgeSeconds", None] == still["WatermarkAgeSeconds", "address"]
    writer.run("COMMIT")
    landed = run()
    assert landed["RowsIngested", "address"] == 2
    assert landed["HeldBackRows", None] == landed["WatermarkAgeSeconds", None] == 0
    assert ("HeldBackRows", "address") not in landed


def test_of_the_ages_of_several_tables_the_highest_counts(run, totesys, monkeypatch):
    run()
    department = (
        "INSERT INTO department (department_name, location, manager, last_updated)"
        " VALUES ('D', 'E', 'F', now())"
    )
    for new in (NEW_ADDRESS, department):
        totesys.connect().run(f"BEGIN; {new}")
        totesys.connect().run(new)
    later(monkeypatch, 3600)
    found = run()
    ages = [found["WatermarkAgeSeconds", table] for table in ("address", "department")]
    assert min(ages) > 3600
    assert found["WatermarkAgeSeconds", None] == max(ages)
    assert found["HeldBackRows", None] == 2


def test_a_quiet_weekend_is_no_age(run, totesys, monkeypatch):
    run()
    later(monkeypatch, 60 * 3600)
    assert run()["WatermarkAgeSeconds", None] == 0
    totesys_database.add_events(totesys.connect(), 1)
    assert run()["WatermarkAgeSeconds", None] == 0


def test_rows_of_a_table_that_never_landed_wait_too(run, totesys):
    writer, other = totesys.connect(), totesys.connect()
    writer.run("TRUNCATE address RESTART IDENTITY CASCADE")
    writer.run("BEGIN")
    writer.run(NEW_ADDRESS)
    other.run(NEW_ADDRESS)
    found = run()
    assert found["HeldBackRows", "address"] == 1
    assert found["WatermarkAgeSeconds", "address"] == 1
