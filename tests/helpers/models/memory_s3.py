"""An S3 in memory, for readers: something may happen before each request."""

from __future__ import annotations

import io
import json
from bisect import bisect_right
from collections import Counter
from datetime import UTC, datetime
from hashlib import md5
from threading import Lock
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError
from botocore.response import StreamingBody

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PAGE = 1000
_TIME = datetime(2024, 11, 11, tzinfo=UTC)


class MemoryS3:
    """A client of S3 that holds its objects itself.

    Attributes:
        objects: bodies and metadata by key.
        before: is called with each request before it is answered.
        requests: how often each operation was asked for.
    """

    def __init__(self) -> None:
        """Hold nothing."""
        self.objects: dict[str, tuple[bytes, dict[str, str]]] = {}
        self.before: Callable[[str], None] = lambda _: None
        self.requests = Counter[str]()
        self._lock = Lock()

    def put(self, key: str, body: bytes, **metadata: str) -> bool:
        """Create an object; tell whether its key was free."""
        is_free = key not in self.objects
        self.objects.setdefault(key, (body, metadata))
        return is_free

    def put_lines(self, key: str, rows: list[dict[str, Any]]) -> bool:
        """Create an object of rows as the service does."""
        body = "".join(json.dumps(row) + "\n" for row in rows)
        return self.put(key, body.encode(), rows=str(len(rows)))

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        """Answer a GET."""
        self._ask(f"GetObject {Key}")
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "NoSuchKey"}}, "GetObject")
        body, metadata = self.objects[Key]
        stream = StreamingBody(io.BytesIO(body), len(body))
        return {"Body": stream, "ETag": _etag(body), "Metadata": metadata}

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        """Answer a HEAD."""
        self._ask(f"HeadObject {Key}")
        if Key not in self.objects:
            raise ClientError({"Error": {"Code": "404"}}, "HeadObject")
        return {**self._listed(Key), "Metadata": self.objects[Key][1]}

    def get_paginator(self, operation: str) -> Any:
        """Return what lists a folder, page by page."""
        return SimpleNamespace(paginate=self._paginate)

    def _paginate(
        self, Bucket: str, Prefix: str, Delimiter: str, StartAfter: str
    ) -> Iterator[dict[str, Any]]:
        after, page = StartAfter, [""]
        while page:
            self._ask(f"ListObjectsV2 {Prefix}")
            found = sorted(key for key in self.objects if key.startswith(Prefix))
            begin = bisect_right(found, after)
            page = found[begin : begin + _PAGE]
            yield {"Contents": [self._listed(key) for key in page]} if page else {}
            after = page[-1] if page else after
            if len(page) < _PAGE:
                return

    def _listed(self, key: str) -> dict[str, Any]:
        body, _ = self.objects[key]
        return {"Key": key, "ETag": _etag(body), "LastModified": _TIME, "Size": len(body)}

    def _ask(self, request: str) -> None:
        self.before(request)
        with self._lock:
            self.requests[request.split()[0]] += 1


def _etag(body: bytes) -> str:
    return f'"{md5(body, usedforsecurity=False).hexdigest()}"'
