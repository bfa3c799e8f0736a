"""A bucket, reduced to the operations that exactness needs: reads, lists and conditional writes.

These are the only S3 calls of the services. They rely on three guarantees of S3: a PUT with
If-None-Match never overwrites, a PUT with If-Match overwrites only the version that was read, and a
listing contains every object that existed when it began. Only "no such key" means absent.

https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
"""

from __future__ import annotations

from base64 import b64encode
from contextlib import closing, contextmanager
from dataclasses import dataclass
from os import SEEK_END
from typing import IO, TYPE_CHECKING, Any, NamedTuple
from zlib import crc32

from botocore.exceptions import ClientError

from shared.bucket.refusals import s3_errors

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager
    from datetime import datetime

    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import GetObjectOutputTypeDef, HeadObjectOutputTypeDef

    from shared.lines import Lines

_CHANGED_CODES = {"PreconditionFailed", "412", "NoSuchKey"}
_CHUNK_BYTES = 1_000_000
PARALLEL_READS = 10  # as many connections as a boto3 client keeps by default

# S3 takes no more by one PUT.
# https://docs.aws.amazon.com/AmazonS3/latest/userguide/upload-objects.html
MOST_BYTES = 5 * 1024**3


class StoredObject(NamedTuple):
    """An object as it was read."""

    body: bytes
    etag: str
    metadata: Mapping[str, str]


class Landed(NamedTuple):
    """An object of rows that was written."""

    key: str
    rows: int
    bytes: int


class ListedObject(NamedTuple):
    """An object as it is listed."""

    key: str
    etag: str
    modified: datetime
    bytes: int


class OpenObject(NamedTuple):
    """An object that is read line by line; each line keeps its line feed."""

    lines: Iterator[bytes]
    metadata: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket and the client to reach it.

    Every method raises LandingError if S3 refuses the request, and LandingUnavailableError if S3
    fails, is overloaded or can't be reached.
    """

    client: S3Client
    name: str

    def get(self, key: str) -> StoredObject | None:
        """Return an object, or None if it does not exist."""
        with self._errors("read", key):
            found = self._get(key)
            return found and StoredObject(found["Body"].read(), found["ETag"], found["Metadata"])

    @contextmanager
    def open(self, key: str) -> Iterator[OpenObject | None]:
        """Open an object to read it in chunks; yield None if it does not exist."""
        with self._errors("read", key):
            found = self._get(key)
            if found is None:
                yield None
                return
            with closing(found["Body"]) as body:
                yield OpenObject(body.iter_lines(_CHUNK_BYTES, keepends=True), found["Metadata"])

    def metadata(self, key: str) -> Mapping[str, str] | None:
        """Return an object's user metadata, or None if the object does not exist."""
        found = self._head(key)
        return found and found["Metadata"]

    def look_up(self, key: str) -> ListedObject | None:
        """Return an object as it would be listed, or None if it does not exist."""
        found = self._head(key)
        return found and ListedObject(
            key, found["ETag"], found["LastModified"], found["ContentLength"]
        )

    def copy_first_version(self, key: str, file: IO[bytes]) -> Mapping[str, str] | None:
        """Write the oldest version that the bucket keeps of an object to a file.

        Returns:
            Its metadata; None if no version is kept.
        """
        with self._errors("look up the versions of", key):
            pages = self.client.get_paginator("list_object_versions").paginate(
                Bucket=self.name, Prefix=key
            )
            versions = [each for page in pages for each in page.get("Versions", ())]
            kept = [each["VersionId"] for each in versions if each["Key"] == key]
            if not kept:
                return None
            found = self.client.get_object(Bucket=self.name, Key=key, VersionId=kept[-1])
            with closing(found["Body"]) as body:
                for chunk in body.iter_chunks(_CHUNK_BYTES):
                    file.write(chunk)
            return found["Metadata"]

    def keys(self, folder: str, after: str = "") -> Iterator[str]:
        """Yield the keys directly in a folder (`address/`), not those in its subfolders.

        They are in byte order; only those behind the key `after` are listed.
        """
        for entry in self._entries(folder, after):
            yield entry["Key"]

    def list(self, folder: str, after: str = "") -> Iterator[ListedObject]:
        """Yield the objects directly in a folder, as `keys` does their keys."""
        for entry in self._entries(folder, after):
            yield ListedObject(entry["Key"], entry["ETag"], entry["LastModified"], entry["Size"])

    def create(
        self, key: str, body: bytes | IO[bytes], metadata: Mapping[str, str] | None = None
    ) -> bool:
        """Write a new object; return False, having changed nothing, if the key exists.

        A file must stand at its beginning, to which a retry of the client goes back.

        False may mean that we wrote the object ourselves: if S3 applies a PUT but answers with an
        error, the client's retry finds the object of its first attempt.
        """
        return self._put(key, body, IfNoneMatch="*", Metadata=dict(metadata or {})) is not None

    def put_rows(self, key: str, lines: Lines, **metadata: str) -> Landed | None:
        """Write rows under a new key; return None, having changed nothing, if the key exists.

        The object's metadata holds the number of `rows`, and the `metadata` given.
        """
        created = self.create(key, lines.body, {"rows": str(lines.rows)} | metadata)
        return Landed(key, lines.rows, len(lines.body)) if created else None

    def put_file(self, key: str, rows: int, file: IO[bytes]) -> Landed | None:
        """Write the rows whose lines are in a file, as `put_rows` does; MOST_BYTES is its limit."""
        size = file.seek(0, SEEK_END)
        file.seek(0)
        return Landed(key, rows, size) if self.create(key, file, {"rows": str(rows)}) else None

    def replace(self, key: str, body: bytes, etag: str | None) -> str | None:
        """Overwrite the version of an object that has this `etag`; create the object if it is None.

        Returns:
            The new etag; None, having changed nothing, if the object has another etag by now.
        """
        condition = {"IfNoneMatch": "*"} if etag is None else {"IfMatch": etag}
        return self._put(key, body, **condition)

    def overwrite(self, key: str, body: bytes) -> str:
        """Write an object, whether there is one or not; return its etag."""
        with self._errors("write", key):
            return self.client.put_object(Bucket=self.name, Key=key, Body=body)["ETag"]

    def _entries(self, folder: str, after: str) -> Iterator[Any]:
        with self._errors("list", folder):
            pages = self.client.get_paginator("list_objects_v2").paginate(
                Bucket=self.name, Prefix=folder, Delimiter="/", StartAfter=after
            )
            for page in pages:
                yield from page.get("Contents", ())

    def _head(self, key: str) -> HeadObjectOutputTypeDef | None:
        with self._errors("look up", key):
            try:
                return self.client.head_object(Bucket=self.name, Key=key)
            except ClientError as error:
                if error.response["Error"]["Code"] == "404":
                    return None
                raise

    def _get(self, key: str) -> GetObjectOutputTypeDef | None:
        try:
            return self.client.get_object(Bucket=self.name, Key=key)
        except ClientError as error:
            # Compare codes, not client.exceptions: its classes are made on first use, and two
            # threads may each make their own, which don't catch each other's errors.
            if error.response["Error"]["Code"] == "NoSuchKey":
                return None
            raise

    def _put(self, key: str, body: bytes | IO[bytes], **options: Any) -> str | None:
        if isinstance(body, bytes):
            # Else botocore computes one, and cuts the body into chunks for that.
            options["ChecksumCRC32"] = b64encode(crc32(body).to_bytes(4)).decode()
        with self._errors("write", key):
            try:
                written = self.client.put_object(Bucket=self.name, Key=key, Body=body, **options)
            except ClientError as error:
                # If-Match on a deleted object is answered 404: it has changed, too.
                if error.response["Error"]["Code"] in _CHANGED_CODES:
                    return None
                raise
        return written["ETag"]

    def _errors(self, action: str, key: str) -> AbstractContextManager[None]:
        return s3_errors(f"Could not {action} s3://{self.name}/{key}")
