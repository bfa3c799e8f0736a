"""`latest.json`: a small object that says how far something is, moved on by compare-and-swap."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.bucket.bucket import Bucket

# What `parse` may stumble over in a file that somebody else has written.
_MALFORMED = (ValueError, KeyError, TypeError, AttributeError, IndexError)


@dataclass(frozen=True, slots=True)
class Pointer[Value]:
    """A pointer as it was read or written.

    Attributes:
        key: of the object.
        value: what it says; None if there is no such object.
        etag: the version of the object.
    """

    key: str
    value: Value | None = None
    etag: str | None = None


def get_pointer[Value](key: str, parse: Callable[[Any], Value], bucket: Bucket) -> Pointer[Value]:
    """Return what a pointer says, by one request; it may lag behind what has landed.

    Args:
        key: of the object.
        parse: makes the value of the object's JSON, or raises what such code raises.
        bucket: where it lies.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
        StateError: it can't be understood.
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


def move_pointer[Value](
    pointer: Pointer[Value], value: Value, content: dict[str, Any], bucket: Bucket
) -> Pointer[Value] | None:
    """Write a pointer over the version that was read; return None if that has changed since.

    Args:
        pointer: as it was read.
        value: what it is to say.
        content: the same as JSON.
        bucket: where it lies.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    body = json.dumps(content, indent=4).encode()
    etag = bucket.replace(pointer.key, body, pointer.etag)
    return Pointer(pointer.key, value, etag) if etag else None
