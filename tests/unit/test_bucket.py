"""What S3's refusals mean, and what only shows when threads use a client at once."""

from __future__ import annotations

from io import BytesIO
from typing import Any, NoReturn

import boto3
import pytest
from botocore.awsrequest import AWSResponse, HeadersDict
from botocore.exceptions import ClientError, NoCredentialsError
from botocore.stub import Stubber
from urllib3 import HTTPResponse

from shared.bucket.bucket import Bucket
from shared.clients import s3_client
from shared.errors import ConfigError, LandingError


class FreshClient:
    """A client whose classes of errors are others each time it is asked for them.

    That is how threads see a client of boto3 that has not raised an error yet.
    """

    @property
    def exceptions(self) -> type[Any]:
        return type("exceptions", (), {"NoSuchKey": type("NoSuchKey", (ClientError,), {})})

    def get_object(self, **_: str) -> NoReturn:
        missing: Any = {"Error": {"Code": "NoSuchKey"}}
        raise self.exceptions.NoSuchKey(missing, "GetObject")


def test_a_missing_object_is_none_whichever_class_says_so():
    client: Any = FreshClient()
    assert Bucket(client, "bucket").get("address/latest.json") is None
    with Bucket(client, "bucket").open("address/latest.json") as found:
        assert found is None


@pytest.mark.parametrize(
    ("code", "message", "remedy"),
    [
        (
            "AccessDenied",
            "User: role is not authorized to perform: s3:PutObject",
            "s3:PutObject on",
        ),
        (
            "AccessDenied",
            "User: role is not authorized to perform: kms:GenerateDataKey on the resource",
            "grant the function's role kms:GenerateDataKey",
        ),
        ("KMS.DisabledException", "key is disabled", "kms:GenerateDataKey"),
        ("ExpiredToken", "The provided token has expired", "log in again"),
        ("RequestTimeTooSkewed", "The difference is too large", "clock"),
        ("InvalidAccessKeyId", "No such key", "AWS_PROFILE"),
        ("SomethingNew", "Nobody knows it", "Look up the code"),
    ],
)
def test_a_refusal_is_told_in_its_own_words_with_what_to_do(code, message, remedy):
    client = boto3.client(
        "s3", region_name="eu-west-2", aws_access_key_id="a", aws_secret_access_key="b"
    )
    with Stubber(client) as stub:
        stub.add_client_error("put_object", code, message, http_status_code=403)
        with pytest.raises(LandingError, match=f"{code}: {message}.*{remedy}"):
            Bucket(client, "bucket").create("address/1.jsonl", b"")


def test_missing_credentials_are_the_deployments_fault():
    class Client:
        def put_object(self, **_: str) -> NoReturn:
            raise NoCredentialsError

    client: Any = Client()
    with pytest.raises(ConfigError, match=r"Unable to locate credentials\. Log in, or"):
        Bucket(client, "bucket").create("address/1.jsonl", b"")


def test_a_body_goes_out_as_it_is_with_its_checksum(monkeypatch):
    """Over TLS; botocore would send it in chunks, and sign each, or read it twice."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "a")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "eu-west-2")
    s3_client.cache_clear()
    client, sent = s3_client(), list[Any]()
    s3_client.cache_clear()

    def answer(request: Any, **_: Any) -> Any:
        sent.append(request)
        headers: Any = HeadersDict({"ETag": '"1"'})
        return AWSResponse(request.url, 200, headers, HTTPResponse(BytesIO()))

    client.meta.events.register("before-send.s3.PutObject", answer)
    assert Bucket(client, "bucket").create("address/1.jsonl", b"{}\n")
    [request] = sent
    assert request.body.read() == b"{}\n"  # not in chunks
    assert request.headers["x-amz-checksum-crc32"] == b"3aGwBg=="
    assert request.headers["X-Amz-Content-SHA256"] == b"UNSIGNED-PAYLOAD"
    assert "Content-Encoding" not in request.headers
