"""Objects with rows, read whole for those who use what landed: intact, or not at all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import StateError

if TYPE_CHECKING:
    from shared.bucket.bucket import Bucket


def get_lines(key: str, bucket: Bucket) -> bytes | None:
    """Return the lines of an object; None if it does not exist.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
        StateError: lines are missing, or the last one is not complete.
    """
    found = bucket.get(key)
    if found is None:
        return None
    lines, rows = found.body, found.metadata.get("rows")
    is_cut = lines != b"" and not lines.endswith(b"\n")
    if is_cut or rows not in {None, str(lines.count(b"\n"))}:
        raise damaged(key, "is truncated or altered", bucket)
    return lines


def damaged(key: str, fault: str, bucket: Bucket) -> StateError:
    """Return the error of an object that is not as it landed.

    Args:
        key: the object to restore.
        fault: what is wrong, to be read after its name: `is missing`.
        bucket: where it is.
    """
    return StateError(
        f"s3://{bucket.name}/{key} {fault}. Restore it by `make restore`: docs/operating.md, "
        "Restore an object."
    )
