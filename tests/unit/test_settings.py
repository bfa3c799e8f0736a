from __future__ import annotations

import json

import pytest

from services.ingestion.handler import Settings
from shared.errors import ConfigError
from shared.postgres.credentials import Credentials

ENV = {
    "BUCKET_NAME": "prod-ingestion-bucket",
    "DB_SECRET_ID": "prod/totesys",
    "DB_CA_FILE": "shared/rds-ca/eu-west-2.pem",
}
SECRET = {
    "host": "db.example.com",
    "port": 5432,
    "dbname": "totesys",
    "username": "reader",
    "password": "hunter2",
}


def test_the_rest_has_defaults():
    settings = Settings.from_env(ENV)
    assert settings.bucket_name == "prod-ingestion-bucket"
    assert (settings.batch_rows, settings.writer_wait_seconds) == (50_000, 30)
    assert (settings.statement_timeout_seconds, settings.backlog_seconds) == (60, 300)
    assert settings.without_changes == ()


LEAST = {
    "BATCH_ROWS": 1,
    "WRITER_WAIT_SECONDS": 0,
    "STATEMENT_TIMEOUT_SECONDS": 1,
    "BACKLOG_SECONDS": 0,
}


@pytest.mark.parametrize("name", LEAST)
def test_a_number_may_be_as_low_as_it_makes_sense(name):
    least = LEAST[name]
    assert getattr(Settings.from_env(ENV | {name: str(least)}), name.lower()) == least
    for text in (str(least - 1), "1.5", " 1", "1e3", "+1", "0x10", "1_000", "\u0663", "\u00b2"):
        with pytest.raises(ConfigError, match=f"{name} must be a whole number from {least}"):
            Settings.from_env(ENV | {name: text})


def test_every_variable_is_read():
    numbers = {name: str(n) for n, name in enumerate(Settings.variables(), start=7)}
    settings = Settings.from_env(numbers | {"TOMBSTONES": "false"})
    read = {name: getattr(settings, name.lower()) for name in Settings.variables()}
    assert read.pop("WITHOUT_CHANGES") == (numbers["WITHOUT_CHANGES"],)
    assert read.pop("TOMBSTONES") is False
    assert read == {name: numbers[name] if name in ENV else int(numbers[name]) for name in read}


@pytest.mark.parametrize(
    ("text", "names"),
    [("", ()), ("all", ("all",)), ("payment, design", ("payment", "design")), (" , ", ())],
)
def test_names_of_tables_have_commas_between_them(text, names):
    assert Settings.from_env(ENV | {"WITHOUT_CHANGES": text}).without_changes == names


def test_all_faults_of_the_environment_are_named_at_once():
    faulty = {"BUCKET_NAME": "", "BATCH_ROWS": "0", "BACKLOG_SECONDS": "5 min"}
    with pytest.raises(ConfigError) as failure:
        Settings.from_env(faulty)
    message = str(failure.value)
    for fault in (
        "BUCKET_NAME is not set",
        "DB_SECRET_ID is not set",
        "DB_CA_FILE is not set",
        "BATCH_ROWS must be a whole number from 1, not '0'",
        "BACKLOG_SECONDS must be a whole number from 0, not '5 min'",
        "serverless.yml",
    ):
        assert fault in message
    assert "WRITER_WAIT_SECONDS" not in message


@pytest.mark.parametrize("port", [5432, "5432"])
def test_a_port_may_be_text_as_rds_secrets_have_it(port):
    credentials = Credentials.from_secret("s", json.dumps(SECRET | {"port": port}))
    assert credentials == Credentials("db.example.com", 5432, "totesys", "reader", "hunter2")


@pytest.mark.parametrize(
    "port", [0, 65_536, -1, "", "54 32", "\u0665432", 5432.0, True, None, [5432]], ids=repr
)
def test_what_is_no_port_is_refused(port):
    with pytest.raises(ConfigError, match="`port` must be a number from 1 to 65535"):
        Credentials.from_secret("s", json.dumps(SECRET | {"port": port}))


def test_all_faults_of_the_secret_are_named_at_once_and_no_value():
    faulty = {"host": "", "port": "99999", "username": 7, "password": "hunter2"}
    with pytest.raises(ConfigError) as failure:
        Credentials.from_secret("prod/totesys", json.dumps(faulty))
    message = str(failure.value)
    for name in ("prod/totesys", "`host`", "`port`", "`dbname`", "`username`"):
        assert name in message
    assert "`password`" not in message
    assert "hunter2" not in message


@pytest.mark.parametrize("host", ["[::1]", "db.example.com\n", " db", "my db", "\t", "/tmp/\n"])
def test_what_is_no_host_is_named(host):
    with pytest.raises(ConfigError, match="`host` must be a name or an address, without brackets"):
        Credentials.from_secret("s", json.dumps(SECRET | {"host": host}))


@pytest.mark.parametrize("host", ["::1", "127.0.0.1", "db.example.com", "/tmp/my server"])
def test_hosts_are_names_addresses_and_directories(host):
    assert Credentials.from_secret("s", json.dumps(SECRET | {"host": host})).host == host


def test_a_byte_order_mark_is_ignored():
    text = f"\ufeff{json.dumps(SECRET)}"
    assert Credentials.from_secret("s", text) == Credentials.from_secret("s", text[1:])


@pytest.mark.parametrize("text", ["hunter2", "", '["hunter2"]', '{"password": "hunter2"'])
def test_a_secret_that_is_no_json_object_is_not_quoted(text):
    with pytest.raises(ConfigError, match="is not a JSON object") as failure:
        Credentials.from_secret("prod/totesys", text)
    assert "hunter2" not in str(failure.value)
    assert failure.value.__cause__ is None


def test_the_password_is_never_shown():
    assert "hunter2" not in repr(Credentials.from_secret("s", json.dumps(SECRET)))
