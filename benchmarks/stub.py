"""AWS, answered in the process: what is measured is the service and not a stand-in's HTTP server.

`Aws` ends requests where they would leave the process, so what boto3 does with them counts, too.
`S3` stands in for the client itself, so it does not.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import time
from collections import Counter
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, unquote, urlsplit

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ClientError
from botocore.httpsession import URLLib3Session

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "eu-west-2",
    "BUCKET_NAME": "benchmark",
    "DB_SECRET_ID": "benchmark",
    "DB_CA_FILE": "shared/rds-ca/eu-west-2.pem",
    "POWERTOOLS_SERVICE_NAME": "ingestion",
}
# What a real S3 takes, over one connection of a Lambda function in the same region.
_REQUEST_SECONDS, _BYTES_A_SECOND = 0.1, 80e6


class _Raw(io.BytesIO):
    """A body the way urllib3 gives it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class Aws:
    """S3 and Secrets Manager as a dictionary.

    Attributes:
        objects: bodies by path; of rows only that they are there, unless it `keeps_rows`.
        requests: how often each kind of request was made.
        bytes: how large the objects of rows were that were written.
        keeps_rows: whether to keep them.
    """

    def __init__(
        self,
        secret: dict[str, Any],
        objects: dict[str, bytes] | None = None,
        *,
        is_paced: bool = False,
    ) -> None:
        """Hold a secret, and the objects that are there already.

        Args:
            secret: the database's.
            objects: those that are there.
            is_paced: whether a request takes as long as it does over the network to a real S3.
        """
        self._is_paced = is_paced
        self.objects = objects or {}
        self.requests: Counter[str] = Counter()
        self.bytes = 0
        self.keeps_rows = False
        self._secret = json.dumps({"SecretString": json.dumps(secret)}).encode()

    def landed(self, table: str) -> bytes:
        """Return the kept rows of a table's first stream."""
        paths = [path for path in self.objects if path.startswith(f"/{table}/")]
        return b"".join(self.objects[path] for path in paths if path.endswith(".jsonl"))

    def answer(self, request: Any) -> AWSResponse:
        """Answer a request that botocore is about to send."""
        if self._is_paced:
            time.sleep(_REQUEST_SECONDS)
        is_list = "list-type=2" in request.url
        self.requests["LIST" if is_list else request.method] += 1
        if request.method == "POST":
            return _response(request, 200, self._secret)
        path = unquote(urlsplit(request.url).path)
        if is_list:
            return _response(request, 200, self._listed(request, path))
        if request.method == "PUT":
            return self._put(request, path)
        if path not in self.objects:
            missing = b"<Error><Code>NoSuchKey</Code></Error>"
            return _response(request, 404, b"" if request.method == "HEAD" else missing)
        return _response(request, 200, self.objects[path])

    def _listed(self, request: Any, path: str) -> bytes:
        [prefix] = parse_qs(urlsplit(request.url).query)["prefix"]
        begin = f"{path}/".replace("//", "/")
        keys = (
            each.removeprefix(begin) for each in self.objects if each.startswith(begin + prefix)
        )
        listed = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in keys)
        return f"<ListBucketResult>{listed}</ListBucketResult>".encode()

    def _put(self, request: Any, path: str) -> AWSResponse:
        if path in self.objects and request.headers.get("If-None-Match"):
            return _response(request, 412, b"<Error><Code>PreconditionFailed</Code></Error>")
        body = getattr(request.body, "_raw", request.body)  # without the checksum around it
        content = body if isinstance(body, bytes) else body.read()
        if self._is_paced:
            time.sleep(len(content) / _BYTES_A_SECOND)
        is_rows = path.endswith(".jsonl")
        self.bytes += len(content) if is_rows else 0
        self.objects[path] = b"" if is_rows and not self.keeps_rows else content
        return _response(request, 200, b"")


def _response(request: Any, status: int, body: bytes) -> AWSResponse:
    headers: Any = {"content-length": str(len(body)), "etag": _etag(body)}
    return AWSResponse(request.url, status, headers, _Raw(body))


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def answer_here(aws: Aws) -> None:
    """Let every client of botocore in this process ask `aws`."""
    setattr(URLLib3Session, "send", lambda _, request: aws.answer(request))  # noqa: B010


class S3:
    """A client of S3 that holds an `Aws`'s objects, without anything of boto3."""

    def __init__(self, aws: Aws) -> None:
        """Read and write what `aws` holds."""
        self._objects = aws.objects

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:  # noqa: ARG002
        """Return an object."""
        body = self._objects.get(self._path(Key))
        if body is None:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        return {"Body": io.BytesIO(body), "ETag": _etag(body), "Metadata": {}}

    def put_object(self, Bucket: str, Key: str, Body: bytes, **options: Any) -> dict[str, str]:  # noqa: ARG002
        """Write an object, if its condition holds."""
        path = self._path(Key)
        if options.get("IfNoneMatch") and path in self._objects:
            raise ClientError({"Error": {"Code": "PreconditionFailed"}}, "PutObject")
        self._objects[path] = Body
        return {"ETag": _etag(Body)}

    def get_paginator(self, _: str) -> Any:
        """Return what lists nothing: asked for what is behind the last batch only."""
        return SimpleNamespace(paginate=lambda **_: [])

    def _path(self, key: str) -> str:
        return f"/{key}"


def configure() -> None:
    """Set the function's environment."""
    os.environ.update(ENVIRONMENT)


class Context:
    """Lambda's context, of a call that has all its time left."""

    def get_remaining_time_in_millis(self) -> int:
        """Return the time left."""
        return 240_000
