"""A bucket, reduced to what exactness needs: read, list, and write without overwriting blindly.

The only S3 calls of the services. Of the store they need three guarantees: a PUT with If-None-Match
never overwrites, one with If-Match overwrites only what was read, and a listing has every object
that was there when it began. Only "no such key" ever reads as absent.
"""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
)
from botocore.exceptions import ConnectionError as UnreachableError
from botocore.parsers import ResponseParserError

from shared.errors import LandingError, LandingUnavailableError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef

    from shared.jsonlines import Lines

# No answer, half an answer, or one that is not S3's. All other errors of botocore are our own
# fault: credentials, say, or an impossible name.
_BROKEN_OFF = (
    UnreachableError,
    HTTPClientError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
)
# 409: somebody is writing the same key at this moment, and S3 does not know yet who is first.
_BUSY_STATUSES = {409, 429}
# "404" is what is left of a NoSuchKey or NoSuchBucket whose body was cut short.
_BUSY_CODES = {"RequestTimeout", "SlowDown", "404"}
_CHANGED_CODES = {"PreconditionFailed", "412", "NoSuchKey"}
_REMEDIES = {
    "NoSuchBucket": "Deploy the bucket, or fix BUCKET_NAME.",
    "AccessDenied": "Let the function's role s3:GetObject and s3:PutObject on the objects of the "
    "bucket and s3:ListBucket on the bucket (without it a missing key is refused, too).",
}


_CHUNK_BYTES = 1_000_000


class StoredObject(NamedTuple):
    """An object as it was read."""

    body: bytes
    etag: str


class Landed(NamedTuple):
    """An object of rows that was written."""

    key: str
    rows: int
    bytes: int


class OpenObject(NamedTuple):
    """An object that is being read, line by line, each with the line feed at its end."""

    lines: Iterator[bytes]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and the client to reach it.

    Every method raises LandingError if S3 refuses and LandingUnavailableError if it fails, is
    overloaded or can't be reached.
    """

    client: S3Client
    name: str

    def get(self, key: str) -> StoredObject | None:
        """Return an object, or None if there is none."""
        with self._errors("read", key):
            found = self._get(key)
            return found and StoredObject(found["Body"].read(), found["ETag"])

    @contextmanager
    def open(self, key: str) -> Iterator[OpenObject | None]:
        """Open an object, or None if there is none, to be read without holding all of it."""
        with self._errors("read", key):
            found = self._get(key)
            if found is None:
                yield None
                return
            with closing(found["Body"]) as body:
                yield OpenObject(body.iter_lines(_CHUNK_BYTES, keepends=True), found["Metadata"])

    def metadata(self, key: str) -> Mapping[str, str] | None:
        """Return an object's user metadata, or None if there is no such object."""
        with self._errors("look up", key):
            try:
                return self.client.head_object(Bucket=self.name, Key=key)["Metadata"]
            except ClientError as error:
                if error.response["Error"]["Code"] == "404":
                    return None
                raise

    def keys(self, folder: str, after: str = "") -> Iterator[str]:
        """Yield the keys right below a folder (`address/`), not those of folders in it.

        They come in the order of their bytes, only those behind the key `after`.
        """
        with self._errors("list", folder):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=folder, Delimiter="/", StartAfter=after
            )
            for page in pages:
                for entry in page.get("Contents", ()):
                    yield entry["Key"]

    def create(self, key: str, body: bytes, metadata: Mapping[str, str] | None = None) -> bool:
        """Write a new object; return False, and change nothing, if there is one of that name.

        A PUT that S3 applied and answered with an error is tried again by the client and then
        finds its own object: False can mean that it was us.
        """
        return self._put(key, body, IfNoneMatch="*", Metadata=dict(metadata or {})) is not None

    def put_rows(self, key: str, lines: Lines, **metadata: str) -> Landed | None:
        """Write rows under a new key; return None, and change nothing, if it exists.

        The metadata says how many rows there are, and what else is given.
        """
        created = self.create(key, lines.body, {"rows": str(lines.rows)} | metadata)
        return Landed(key, lines.rows, len(lines.body)) if created else None

    def replace(self, key: str, body: bytes, etag: str | None) -> str | None:
        """Write over the object read with this `etag` (None: over nothing).

        Returns:
            The new etag; None, having changed nothing, if it has another content by now.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        return self._put(key, body, **condition)

    def _get(self, key: str) -> GetObjectOutputTypeDef | None:
        try:
            return self.client.get_object(Bucket=self.name, Key=key)
        except ClientError as error:
            # By its code, not by client.exceptions: threads that meet a client's first error at
            # once may each make exception classes of their own, and so miss each other's.
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise

    def _put(self, key: str, body: bytes, **options: Any) -> str | None:
        with self._errors("write", key):
            try:
                written = self.client.put_object(Bucket=self.name, Key=key, Body=body, **options)
            except ClientError as error:
                # If-Match on a missing object is a 404: it changed, too.
                if error.response["Error"]["Code"] in _CHANGED_CODES:
                    return None
                raise
        return written["ETag"]

    @contextmanager
    def _errors(self, action: str, key: str) -> Iterator[None]:
        what = f"Could not {action} s3://{self.name}/{key}"
        try:
            yield
        except ClientError as error:
            raise _explain(what, error) from error
        except _BROKEN_OFF as error:
            raise LandingUnavailableError(f"{what}: {error}. It is tried again.") from error
        except BotoCoreError as error:
            raise LandingError(f"{what}: {error}. Fix the deployment.") from error


def _explain(what: str, error: ClientError) -> PipelineError:
    code = error.response["Error"].get("Code", "")
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if status >= 500 or status in _BUSY_STATUSES or code in _BUSY_CODES:
        return LandingUnavailableError(f"{what}: {code} (HTTP {status}). It is tried again.")
    code = "AccessDenied" if code == "403" else code  # all that the answer to a HEAD can say
    remedy = _REMEDIES.get(code, "Look the code up in the S3 API reference.")
    return LandingError(f"{what}: {code}. {remedy}")
