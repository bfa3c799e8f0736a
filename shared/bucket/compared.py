"""When the tables were last compared with their streams: the server's counters of those moments.

The reconciliation writes `inventory/compared.json`, and every run reads it: a table of which rows
were deleted since is compared again right after the run.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.bucket import keys
from shared.bucket.pointer import Pointer, get_pointer, get_pointer_if_valid, move_pointer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bucket.bucket import Bucket
    from shared.tables import Table


@dataclass(frozen=True, slots=True)
class Compared:
    """The content of `compared.json`.

    Attributes:
        writes: the counters of each table's last complete comparison, see `shared.snapshot.Mark`.
    """

    writes: Mapping[str, str] = field(default_factory=dict)

    def content(self) -> dict[str, Any]:
        """Return what the file holds."""
        return dict(self.writes)


def get_compared(bucket: Bucket) -> Pointer[Compared]:
    """Return when the tables were last compared, by one request.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_pointer`.
    """
    return get_pointer(keys.COMPARED_KEY, _parse, bucket)


def save_compared(table: Table, writes: str, bucket: Bucket) -> None:
    """Save a table's counters; of two comparisons at once either may have the last word.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    is_saved = False
    while not is_saved:  # another reconciliation may save those of another table meanwhile
        pointer = get_pointer_if_valid(keys.COMPARED_KEY, _parse, bucket)
        known = (pointer.value or Compared()).writes
        compared = Compared({**known, table.name: writes})
        is_saved = compared == pointer.value or bool(move_pointer(pointer, compared, bucket))


def _parse(content: Any) -> Compared:
    return Compared({str(table): str(writes) for table, writes in content.items()})
