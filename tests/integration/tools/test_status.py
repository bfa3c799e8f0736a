"""How a stage's tables stand, where all can be asked and where something can't."""

from __future__ import annotations

import json
import time
import uuid
from datetime import UTC, datetime

import boto3
import pytest

from local import totesys as totesys_database
from services.ingestion import Limits, ingest
from services.ingestion.handler import Settings
from shared.clients import s3_client
from shared.tables import TABLES
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import restore
from tools import standing, status
from tools.standing import stage_standing

pytestmark = pytest.mark.thorough

SOME_TABLES = ("payment", "staff", "department", "address", "currency")


@pytest.fixture
def settings(totesys, bucket, aws):
    """What the function of a stage would have; its secret is there."""
    aws("secretsmanager").create_secret(Name=totesys.name, SecretString=json.dumps(totesys.secret))
    return Settings.from_env(
        {
            "BUCKET_NAME": bucket.name,
            "DB_SECRET_ID": totesys.name,
            "DB_CA_FILE": "shared/rds-ca/eu-west-2.pem",
            "WITHOUT_CHANGES": "staff",
        }
    )


@pytest.fixture
def function_log(aws, log_lines):
    """The name of a function, and what puts into its log what was logged so far."""
    client, name = aws("logs"), f"function-{uuid.uuid4()}"
    where = {"logGroupName": f"/aws/lambda/{name}", "logStreamName": "1"}
    client.create_log_group(logGroupName=where["logGroupName"])
    client.create_log_stream(**where)

    def put():
        events = [
            {"timestamp": time.time_ns() // 10**6, "message": json.dumps(line)}
            for line in log_lines()
        ]
        client.put_log_events(**where, logEvents=events)

    return name, put


def run(totesys, bucket, tables=SOME_TABLES, **limits):
    options = Limits(without_changes=["staff"], **limits)
    ingest(tables, bucket.client, totesys.connect(), bucket.name, options)


def look(settings, function_name="not-there"):
    found = stage_standing(function_name, settings, datetime.now(UTC))
    return {each.table: each for each in found.tables}, found.notes


def test_all_that_there_is_to_know(totesys, bucket, settings, function_log):
    name, put = function_log
    run(totesys, bucket)
    totesys_database.add_events(totesys.connect(), 5)
    with_writer = totesys.connect()
    with_writer.run("BEGIN")
    with_writer.run("INSERT INTO currency (currency_code, created_at, last_updated)"
                    " VALUES ('XXX', now(), now())")  # fmt: skip
    totesys.connect().run("INSERT INTO currency (currency_code, created_at, last_updated)"
                          " VALUES ('YYY', now(), now())")  # fmt: skip
    run(totesys, bucket, TABLES, writer_wait_seconds=0)
    put()
    tables, notes = look(settings, name)
    assert notes == []
    assert list(tables) == list(TABLES)
    payment = tables["payment"]
    assert payment.last_key == landed.data_keys(bucket, "payment")[-1]
    assert (payment.last_rows, payment.rows_today) == (5, 305)
    assert payment.watermark == payment.highest_id == landed.ids(bucket, "payment")[-1]
    assert payment.age_seconds in range(60)
    assert payment.held_back_rows == 0
    currency = tables["currency"]
    assert (currency.held_back_rows, currency.highest_id) == (1, (currency.watermark or 0) + 2)
    assert (tables["staff"].changes, tables["currency"].changes) == (None, 0)


def test_today_are_the_rows_of_todays_objects(totesys, bucket, settings):
    run(totesys, bucket)
    yesterday = b'{"address_id":3}\n'
    restore(bucket, {"address/3-2026-01-01T23-59-59.jsonl": (yesterday, {"rows": "3"})})
    tables, _ = look(settings)
    assert tables["address"].rows_today == 30


def test_so_many_objects_are_not_counted(totesys, bucket, settings, monkeypatch):
    run(totesys, bucket)
    monkeypatch.setattr(standing, "MOST_OBJECTS", 0)
    tables, notes = look(settings)
    assert tables["payment"].rows_today is None
    assert "payment: more than 0 objects today; their rows are not counted." in notes


def test_before_anything_has_landed(settings):
    tables, notes = look(settings)
    payment = tables["payment"]
    assert (payment.watermark, payment.age_seconds, payment.last_key) == (0, None, None)
    assert (payment.rows_today, payment.held_back_rows) == (0, None)
    assert payment.highest_id
    [note] = notes
    assert note.startswith("Held back: can't read the log: ")


def test_a_database_out_of_reach_is_a_note(totesys, bucket, settings, aws):
    run(totesys, bucket)
    away = json.dumps(totesys.secret | {"host": "127.0.0.1", "port": 9})
    aws("secretsmanager").put_secret_value(SecretId=totesys.name, SecretString=away)
    tables, notes = look(settings)
    assert tables["payment"].highest_id is None
    assert tables["payment"].watermark
    [note] = [note for note in notes if note.startswith("Source: ")]
    assert "127.0.0.1:9 does not answer" in note


def test_what_is_broken_in_one_table_hides_no_other(totesys, bucket, settings):
    run(totesys, bucket)
    restore(bucket, {"payment/latest.json": (b"{", {})})
    totesys.connect().run("ALTER TABLE department RENAME TO departments")
    tables, notes = look(settings)
    assert (tables["payment"].watermark, tables["department"].highest_id) == (None, None)
    assert tables["payment"].highest_id
    assert tables["department"].watermark
    assert [note for note in notes if note.startswith("payment: s3://")]
    assert [note for note in notes if note.startswith("Source of department: ")]
    assert all(tables[table].rows_today is not None for table in set(TABLES) - {"payment"})


def test_nothing_is_written_and_few_requests_are_made(totesys, bucket, settings):
    run(totesys, bucket)
    made = []
    events = s3_client().meta.events
    events.register("before-call.s3", lambda model, **_: made.append(model.name))
    look(settings)
    assert set(made) == {"GetObject", "ListObjectsV2", "HeadObject"}
    assert len(made) <= 7 * len(TABLES)  # where nothing has landed, claims are listed, too


@pytest.fixture
def stages(aws, monkeypatch):
    """Deploy a function with a name; all are gone at the end."""
    client, made = aws("lambda"), []
    trust = {"Version": "2012-10-17", "Statement": []}
    role = aws("iam").create_role(
        RoleName=f"role-{uuid.uuid4()}", AssumeRolePolicyDocument=json.dumps(trust)
    )["Role"]["Arn"]

    def deploy(name):
        client.create_function(
            FunctionName=name, Role=role, Runtime="python3.13", Handler="x.y", Code={"ZipFile": b""}
        )
        made.append(name)

    yield deploy
    for name in made:
        client.delete_function(FunctionName=name)


def test_where_the_stage_is_not_deployed_those_that_are_there_are_suggested(stages, capsys):
    for name in ("totesys-ingestion-dev-ingest", "totesys-ingestion-local-ingest"):
        stages(name)
    for name in ("totesys-ingestion-dev-reconcile", "other-ingestion-x-ingest"):
        stages(name)
    with pytest.raises(SystemExit) as ended:
        status.main(["--stage", "prod"])
    assert ended.value.code == (
        "There is no stage 'prod' in eu-west-2: no function totesys-ingestion-prod-ingest. "
        "Deployed there: dev, local. Try: STAGE=dev"
    )
    assert capsys.readouterr().out == ""


def test_where_no_stage_is_deployed_it_says_so(aws):
    with pytest.raises(SystemExit, match=r"'prod' in eu-west-1: .* No stage is deployed there: "):
        status.main(["--region", "eu-west-1"])


def test_without_credentials_one_line_says_so(aws, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setattr(boto3, "DEFAULT_SESSION", None)  # it has found credentials before
    with pytest.raises(SystemExit, match=r"can't be read: Unable to locate credentials\. Are reg"):
        status.main([])
