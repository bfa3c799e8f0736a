"""The S3 of the integration tests: moto's server, over HTTP, shared by the session."""

from __future__ import annotations

import io
import json
import logging
import shutil
import uuid
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from local.aws.moto_patches import hasten
from services.ingestion import read_ahead
from shared import telemetry
from shared.bucket.bucket import Bucket
from shared.clients import s3_client
from shared.contracts import contract as contracts
from shared.postgres.credentials import secrets_provider
from tests.helpers.faults.steps import Immediately
from tools.contract import make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pg8000.native import Connection

REGION = "eu-west-2"


@pytest.fixture(scope="session")
def aws_endpoint() -> Iterator[str]:
    """The address of an AWS stand-in without state."""
    logging.getLogger("werkzeug").setLevel(logging.WARNING)  # a line for each request
    hasten()
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    yield f"http://127.0.0.1:{port}"
    server.stop()


@pytest.fixture
def aws(aws_endpoint, monkeypatch):
    """Let every client made in the test talk to the stand-in; make clients by service name."""
    for name in ("AWS_PROFILE", "AWS_CA_BUNDLE", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_ENDPOINT_URL", aws_endpoint)
    monkeypatch.setenv("AWS_DEFAULT_REGION", REGION)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "testing")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "testing")
    yield boto3.client
    # What a warm process keeps is bound to this endpoint.
    s3_client.cache_clear()
    secrets_provider.cache_clear()


@pytest.fixture
def one_step_at_a_time(monkeypatch):
    """Let runs read ahead in the foreground, so that they always make the same steps."""
    monkeypatch.setattr(read_ahead, "ThreadPoolExecutor", Immediately)


@pytest.fixture
def log_lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Return what has been logged in the test so far, parsed."""
    stream = io.StringIO()
    handler = telemetry.logger().registered_handler
    assert isinstance(handler, logging.StreamHandler)
    before = handler.setStream(stream)
    yield lambda: [json.loads(line) for line in stream.getvalue().splitlines()]
    handler.setStream(before)


@pytest.fixture
def x_land(tmp_path, monkeypatch) -> Iterator[Callable[..., None]]:
    """Let columns of a table land in another form: call it with the table and the form of each.

    A table that has no contract gets one, made of the table behind a connection.
    """
    folder = tmp_path / "contracts"
    shutil.copytree(contracts.FOLDER, folder)
    monkeypatch.setattr(contracts, "FOLDER", folder)

    def say(table: str, connection: Connection | None = None, /, **forms: str) -> None:
        path = folder / f"{table}.json"
        document = json.loads(make(table, connection) if connection else path.read_text())
        for column, form in forms.items():
            document["properties"][column]["x-land"] = form
        path.write_text(json.dumps(document))
        contracts.load.cache_clear()

    yield say
    contracts.load.cache_clear()


@pytest.fixture
def bucket(aws) -> Bucket:
    """A new bucket."""
    client = aws("s3")
    name = f"test-{uuid.uuid4()}"
    client.create_bucket(Bucket=name, CreateBucketConfiguration={"LocationConstraint": REGION})
    return Bucket(client, name)


@pytest.fixture
def deployed(totesys, bucket, aws, monkeypatch):
    """The handler's world, as a deployment would make it; call it to change the secret."""
    secrets = aws("secretsmanager")
    name = secrets.create_secret(Name=f"{bucket.name}/totesys", SecretString="{}")["Name"]
    for variable, value in {
        "BUCKET_NAME": bucket.name,
        "DB_SECRET_ID": name,
        "DB_CA_FILE": "shared/rds-ca/eu-west-2.pem",
        "STATEMENT_TIMEOUT_SECONDS": "10",
        "POWERTOOLS_SERVICE_NAME": "ingestion",
    }.items():
        monkeypatch.setenv(variable, value)

    def change(**changes):
        secret = json.dumps(totesys.secret | changes)
        secrets.put_secret_value(SecretId=name, SecretString=secret)

    change()
    return change
