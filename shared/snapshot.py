"""Marks: snapshots of the database that the change stream compares rows with. Pure.

A mark is taken before anything is read. What was committed by a transaction below its `xmin` was
visible then already: whoever has delivered every row version up to the mark need look only at
versions whose own `xmin` is not below the mark's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# The server counts writes with a delay that has no upper bound (a session that goes idle right
# after its commit; a counter lost on its way). After this long, equal counters prove nothing.
TRUSTED_SECONDS = 3600

_HALF_OF_ALL_XIDS = 2**31


@dataclass(frozen=True, slots=True)
class Mark:
    """A snapshot of the database, as one table's history has it.

    >>> mark = Mark("745:749:746,747", "…", "…", 1731336904)
    >>> mark.xmin, mark.xmax, mark.xip
    (745, 749, [746, 747])

    Attributes:
        snapshot: `pg_current_snapshot()`, `xmin:xmax:xip`, in transaction ids of 64 bits.
        history: differs where transaction ids can't be compared: the cluster went through recovery,
            was restored or is another one, or the table was created anew.
        writes: the server's counters of rows written; the same as long as none was counted.
        at: the database's clock, in seconds since 1970.
    """

    snapshot: str
    history: str
    writes: str
    at: int

    @property
    def xmin(self) -> int:
        """The lowest transaction id that was still active: all lower ones had ended."""
        return int(self.snapshot.split(":")[0])

    @property
    def xmax(self) -> int:
        """The lowest transaction id that had not been assigned yet."""
        return int(self.snapshot.split(":")[1])

    @property
    def xip(self) -> list[int]:
        """The ids of the transactions in progress, without those of their savepoints."""
        return [int(xid) for xid in self.snapshot.split(":")[2].split(",") if xid]


def parse_mark(said: Mapping[str, Any]) -> Mark:
    """Return the mark of which `asdict` made this.

    Raises:
        KeyError, ValueError, TypeError, AttributeError, IndexError: it is not a mark.
    """
    mark = Mark(**{field.name: said[field.name] for field in fields(Mark)})
    if not all(mark.xmin <= xid < mark.xmax for xid in mark.xip):
        raise ValueError(mark.snapshot)
    return mark


def is_unchanged(done: Mark, now: Mark) -> bool:
    """Tell whether nothing was written since a mark, as far as the counters can be trusted."""
    return (
        done.writes == now.writes
        and now.at - done.at < TRUSTED_SECONDS
        and break_between(done, now) is None
    )


def break_between(done: Mark | None, now: Mark) -> str | None:
    """Return why an earlier mark can't tell old row versions from new ones; None if it can."""
    if done is None:
        return "it has no change stream yet"
    if done.history != now.history:
        return "the cluster crashed, was restored or replaced, or the table was created anew"
    if now.xmax < done.xmax:
        return "transaction ids went back: the cluster was restored"
    if now.xmax - done.xmin >= _HALF_OF_ALL_XIDS:
        return "more than 2^31 transactions have passed since the last scan"
    return None
