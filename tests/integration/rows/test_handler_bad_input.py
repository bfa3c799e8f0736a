"""What goes wrong around a run: each fault has its own error that says what to do."""

from __future__ import annotations

import json

import pytest

from services.ingestion.handler import lambda_handler
from shared.errors import (
    ConfigError,
    EventError,
    IngestionError,
    LandingUnavailableError,
    SourceError,
    SourceUnavailableError,
)
from tests.helpers.oracle import landed
from tests.helpers.runs.lambda_context import CONTEXT

pytestmark = pytest.mark.thorough


def fails(error, match, event=None):
    with pytest.raises(error, match=match) as failure:
        lambda_handler(event or {}, CONTEXT)
    assert type(failure.value) is error
    return str(failure.value)


def test_the_handler_lands_everything_and_says_so(deployed, bucket, log_lines):
    result = lambda_handler({}, CONTEXT)
    assert result["rows"] == sum(len(landed.rows(bucket, table)) for table in result["tables"])
    assert json.loads(json.dumps(result)) == result
    ended = [line["rows"] for line in log_lines() if line["message"] == "Run ended"]
    assert ended == [result["rows"]]


def test_a_failed_call_has_an_error_line(deployed, log_lines):
    fails(EventError, "Unknown tables", {"tables": ["nothing"]})
    [error] = [line for line in log_lines() if line["level"] == "ERROR"]
    assert error["error"] == "EventError"


def test_missing_environment(deployed, monkeypatch):
    monkeypatch.delenv("BUCKET_NAME")
    monkeypatch.setenv("BATCH_ROWS", "many")
    assert "BATCH_ROWS" in fails(ConfigError, "BUCKET_NAME is not set")


def test_missing_secret(deployed, monkeypatch):
    monkeypatch.setenv("DB_SECRET_ID", "not/there")
    fails(ConfigError, "'not/there' can't be read: ResourceNotFound.* Create it")


def test_malformed_secret(deployed):
    deployed(host="", port=0)
    assert "`port`" in fails(ConfigError, "`host` must be a string")


def test_missing_ca_file(deployed, monkeypatch):
    monkeypatch.setenv("DB_CA_FILE", "shared/rds-ca/nowhere.pem")
    deployed(host="127.0.0.1")
    fails(ConfigError, r"No CA certificates in .*nowhere\.pem.* DB_CA_FILE")


def test_secrets_manager_out_of_reach(deployed, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL_SECRETS_MANAGER", "http://127.0.0.1:9")
    fails(LandingUnavailableError, "Secrets Manager does not answer")


def test_wrong_password(deployed):
    deployed(password="wrong")
    message = fails(SourceError, "28P01.* Put the right username and password")
    assert "wrong" not in message.replace("wrong_", "")


def test_missing_database(deployed):
    deployed(dbname="elsewhere")
    fails(SourceError, "3D000.* dbname")


def test_a_host_that_refuses(deployed):
    deployed(host="127.0.0.1", port=9)
    fails(SourceUnavailableError, "127.0.0.1:9 does not answer.* security groups")


def test_missing_bucket(deployed, monkeypatch):
    monkeypatch.setenv("BUCKET_NAME", "not-there-at-all")
    fails(IngestionError, "NoSuchBucket: .* Deploy the bucket, or fix BUCKET_NAME")


def test_missing_permission(deployed, totesys, bucket):
    totesys.connect().run("REVOKE SELECT ON design FROM reader")
    event = {"tables": ["design", "staff"]}
    message = fails(IngestionError, "design: SourceError: .*42501.* GRANT", event)
    assert message.startswith("1 table(s) failed")
    assert landed.data_keys(bucket, "design") == []
    assert landed.ids(bucket, "staff")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b'{"latest_row_id": 7}', b'{"latest_row_id": "7"}', b"\xff"],
    ids=repr,
)
def test_corrupt_latest_json(deployed, bucket, body):
    bucket.create("staff/latest.json", body)
    said = "staff: StateError: .*staff/latest.json is not a valid latest"
    message = fails(IngestionError, said, {"tables": ["staff"]})
    assert "delete it" in message
    assert landed.data_keys(bucket, "staff") == []
    assert bucket.get("staff/latest.json").body == body


def test_a_table_without_its_id_column(deployed, totesys, bucket):
    totesys.connect().run("ALTER TABLE payment_type RENAME payment_type_id TO id")
    said = "payment_type: SourceError: .*no integer column 'payment_type_id'"
    fails(IngestionError, said, {"tables": ["payment_type", "currency"]})
    assert landed.data_keys(bucket, "payment_type") == []
    assert landed.ids(bucket, "currency") == [1, 2, 3]


def test_no_password_and_no_value_of_a_row_is_ever_logged(deployed, totesys, log_lines, capsys):
    totesys.connect().run("ALTER TABLE design RENAME TO designs")
    fails(IngestionError, "design", {"tables": ["design", "address"]})
    captured = capsys.readouterr()
    said = json.dumps(log_lines(), ensure_ascii=False) + captured.err + captured.out
    assert totesys.secret["password"] not in said
    lines = totesys.connect().run("SELECT address_line_1, phone FROM address")
    assert not [value for line in lines for value in line if value in said]
