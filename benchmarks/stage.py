"""What the measurements of ticks run against: a real PostgreSQL, and AWS answered in the process.

Requests to AWS end where they would leave the process, so that what is measured is the service and
not the stand-in's HTTP server. What they would have read and written is kept in a dictionary.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

from botocore.awsrequest import AWSResponse
from botocore.httpsession import URLLib3Session

from local import totesys
from local.database import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

DATABASE = "totesys"
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_DEFAULT_REGION": "eu-west-2",
    "BUCKET_NAME": "benchmark",
    "STAGE": "benchmark",
    "DB_SECRET_ID": "benchmark",
    "DB_CA_FILE": "shared/rds-ca/eu-west-2.pem",
    "POWERTOOLS_SERVICE_NAME": "ingestion",
    "POWERTOOLS_METRICS_NAMESPACE": "Totesys",
}


class _Raw(io.BytesIO):
    """A body the way urllib3 gives it."""

    def stream(self, **_: Any) -> Iterator[bytes]:
        yield self.read()


class Aws:
    """S3 and Secrets Manager as a dictionary.

    Attributes:
        objects: bodies by path.
        requests: how often each kind of request was made.
    """

    def __init__(self, secret: dict[str, Any], objects: dict[str, bytes] | None = None) -> None:
        """Hold a secret, and the objects that are there already."""
        self.objects = objects or {}
        self.requests: Counter[str] = Counter()
        self._secret = json.dumps({"SecretString": json.dumps(secret)}).encode()

    def answer(self, request: Any) -> AWSResponse:
        """Answer a request that botocore is about to send."""
        self.requests[request.method] += 1
        if request.method == "POST":
            return _response(request, 200, self._secret)
        path = unquote(urlsplit(request.url).path)
        if "list-type=2" in request.url:  # asked for what has never landed only
            return _response(request, 200, b"<ListBucketResult></ListBucketResult>")
        if request.method == "PUT":
            return self._put(request, path)
        if path not in self.objects:
            return _response(request, 404, b"<Error><Code>NoSuchKey</Code></Error>")
        return _response(request, 200, self.objects[path])

    def _put(self, request: Any, path: str) -> AWSResponse:
        if path in self.objects and request.headers.get("If-None-Match"):
            return _response(request, 412, b"<Error><Code>PreconditionFailed</Code></Error>")
        body = getattr(request.body, "_raw", request.body)  # without the checksum around it
        self.objects[path] = body if isinstance(body, bytes) else body.read()
        return _response(request, 200, b"")


def _response(request: Any, status: int, body: bytes) -> AWSResponse:
    etag = hashlib.md5(body, usedforsecurity=False).hexdigest()
    headers: Any = {"content-length": str(len(body)), "etag": f'"{etag}"'}
    return AWSResponse(request.url, status, headers, _Raw(body))


def answer_here(aws: Aws) -> None:
    """Let every client of botocore in this process ask `aws`."""
    setattr(URLLib3Session, "send", lambda _, request: aws.answer(request))  # noqa: B010


@contextmanager
def seeded_server(events: int = 15_000) -> Iterator[Server]:
    """A server with a Totesys of about its real size."""
    with Server.start() as server:
        server.create_database(DATABASE)
        connection = server.connect(DATABASE)
        totesys.create(connection)
        totesys.seed(connection, events)
        connection.run("VACUUM ANALYZE")
        connection.close()
        yield server


def configure() -> None:
    """Set the function's environment."""
    os.environ.update(ENVIRONMENT)
