"""When a table was last compared with its streams: the server's counters of that moment.

The reconciliation writes it, and a run reads it: if rows were deleted since, the table is compared
again right after the run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.bucket import keys
from shared.bucket.pointer import Pointer, get_pointer, move_pointer

if TYPE_CHECKING:
    from shared.bucket.bucket import Bucket
    from shared.tables import Table


@dataclass(frozen=True, slots=True)
class Compared:
    """The content of a table's `compared.json`.

    Attributes:
        writes: the counters of its last complete comparison, see `shared.snapshot.Mark`.
    """

    writes: str

    def content(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {"writes": self.writes}


def get_compared(table: Table, bucket: Bucket) -> Pointer[Compared]:
    """Return when a table was last compared, by one request.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_pointer`.
    """
    return get_pointer(keys.format_compared_key(table), _parse, bucket)


def save_compared(table: Table, writes: str, bucket: Bucket) -> None:
    """Save the counters; of two comparisons at once either may have the last word.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_pointer`.
    """
    pointer = get_compared(table, bucket)
    if pointer.value != Compared(writes):
        move_pointer(pointer, Compared(writes), bucket)


def _parse(content: Any) -> Compared:
    return Compared(str(content["writes"]))
