"""A function that is deployed, and whose calls and log are the test's."""

from __future__ import annotations

import json
import uuid
from contextlib import suppress

import pytest
from botocore.exceptions import ClientError

from tests.helpers.faults.lambda_calls import Calls, Log
from tests.helpers.faults.s3 import faulty_s3
from tools import watching
from tools.stages import find_function, function_name, log_group


@pytest.fixture
def log(aws):
    """Deploy `ingest` to the stage `test`; its log."""
    name, client = function_name("test"), aws("lambda")
    trust = json.dumps({"Version": "2012-10-17", "Statement": []})
    role = aws("iam").create_role(RoleName=f"{uuid.uuid4()}", AssumeRolePolicyDocument=trust)
    client.create_function(
        FunctionName=name,
        Role=role["Role"]["Arn"],
        Runtime="python3.13",
        Handler="x.y",
        Code={"ZipFile": b""},
        Timeout=240,
        Environment={"Variables": {"BUCKET_NAME": "a-bucket"}},
    )
    log = Log(log_group(name))
    yield log
    client.delete_function(FunctionName=name)
    with suppress(ClientError):  # the test has deleted it
        log.delete()


@pytest.fixture
def function(log):
    """Return that function as the tools find it."""
    return find_function("test", "eu-west-2")


@pytest.fixture
def calls(log, aws_endpoint, monkeypatch):
    """Answer the calls of that function; what else is asked of Lambda is answered as ever."""
    calls = Calls()
    with faulty_s3(aws_endpoint) as proxy:
        proxy.choose = calls.choose
        monkeypatch.setenv("AWS_ENDPOINT_URL_LAMBDA", proxy.url)
        monkeypatch.setattr(watching, "POLL_SECONDS", 0.01)
        yield calls
