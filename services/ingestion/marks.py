"""Moments in a table's history, as the change stream remembers them. Pure.

A mark is taken before anything is read. What was committed by a transaction below `base` was
visible then already: whoever has delivered every version up to the mark need look only at versions
with an `xmin` from `base` on.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

# Writes are counted with a delay, which has no bound (a session that goes idle right after its
# commit, a counter lost on its way): so long is a table taken to be as it was for its counters.
TRUSTED_SECONDS = 3600

_HALF_OF_ALL_XIDS = 2**31


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment in a table's history.

    Attributes:
        snapshot: `pg_current_snapshot()`, `xmin:xmax:xip`, in ids of 64 bits.
        history: differs where transaction ids can't be compared: the cluster went through recovery,
            was restored or is another one, or the table was made anew.
        writes: the counters of rows written; the same as long as none was counted.
        at: the database's clock, in seconds since 1970.
    """

    snapshot: str
    history: str
    writes: str
    at: int

    @property
    def base(self) -> int:
        """The lowest id of a transaction that was open, or had yet to begin."""
        return int(self.snapshot.split(":")[0])

    @property
    def next_xid(self) -> int:
        """The lowest id that no transaction had yet."""
        return int(self.snapshot.split(":")[1])

    @property
    def open_xids(self) -> list[int]:
        """The ids of the transactions that were open, without those of savepoints."""
        return [int(xid) for xid in self.snapshot.split(":")[2].split(",") if xid]


def parse_mark(said: Mapping[str, Any]) -> Mark:
    """Return the mark of which `asdict` made this.

    Raises:
        KeyError, ValueError, TypeError, AttributeError, IndexError: it is none.
    """
    mark = Mark(**{field.name: said[field.name] for field in fields(Mark)})
    if not all(mark.base <= xid < mark.next_xid for xid in mark.open_xids):
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
    """Return why versions can't be told old or new by a mark of the past, None if they can."""
    if done is None:
        return "it has had none so far"
    if done.history != now.history:
        return "the cluster has crashed, was restored or replaced, or the table was made anew"
    if now.next_xid < done.next_xid:
        return "transaction ids went back: the cluster was restored"
    if now.next_xid - done.base >= _HALF_OF_ALL_XIDS:
        return "more than 2^31 transactions ago it was looked at last"
    return None
