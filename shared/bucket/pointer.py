"""`latest.json`: a small object that says how far a stream has come, with compare-and-swap."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from shared.errors import StateError
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bucket.bucket import Bucket

# The errors that `parse` may raise for a file that we did not write.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError)


class Value(Protocol):
    """What a pointer says."""

    def content(self) -> dict[str, Any]:
        """Return it as it is stored in JSON."""
        ...


@dataclass(frozen=True, slots=True)
class Pointer[V: Value]:
    """A pointer as it was read or written.

    Attributes:
        key: the object's key.
        value: the object's content; None if it does not exist.
        etag: the object's version; None if it does not exist.
    """

    key: str
    value: V | None = None
    etag: str | None = None


def get_pointer[V: Value](key: str, parse: Callable[[Any], V], bucket: Bucket) -> Pointer[V]:
    """Return a pointer, by one request; it may lag behind what has landed.

    Args:
        key: the object's key.
        parse: turns the object's JSON into the value, or raises one of `_MALFORMED`.
        bucket: the bucket it is in.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
        StateError: the object is not a valid latest.json.
    """
    found = bucket.get(key)
    if found is None:
        return Pointer(key)
    try:
        return Pointer(key, parse(json.loads(found.body)), found.etag)
    except _MALFORMED as error:
        raise StateError(
            f"s3://{bucket.name}/{key} is not a valid latest.json. Restore an older version of it, "
            "or delete it: it is rebuilt from the other objects."
        ) from error


def get_pointer_if_valid[V: Value](
    key: str, parse: Callable[[Any], V], bucket: Bucket
) -> Pointer[V]:
    """Return a pointer as `get_pointer` does, without a value if the object is not valid.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    try:
        return get_pointer(key, parse, bucket)
    except StateError as error:
        logger().warning("A file is not valid, and is made anew", extra={"because": str(error)})
        found = bucket.get(key)
        return Pointer(key, None, found.etag if found else None)


def move_pointer[V: Value](pointer: Pointer[V], value: V, bucket: Bucket) -> Pointer[V] | None:
    """Overwrite the version of a pointer that was read; return None if it has changed since.

    Args:
        pointer: as it was read.
        value: its new value.
        bucket: the bucket it is in.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    body = json.dumps(value.content(), indent=4).encode()
    etag = bucket.replace(pointer.key, body, pointer.etag)
    return Pointer(pointer.key, value, etag) if etag else None
