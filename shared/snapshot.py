"""Marks: snapshots of the database that the change stream compares rows with. No I/O.

A mark is taken before anything is read. Every transaction with an id below its `xmin` had ended by
then, and what it committed was visible. So once every row version up to the mark has been
delivered, the next scan needs only versions whose own `xmin` is not below the mark's.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from shared.declaration import difference, with_land

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.personal import PersonalData

# The server's counters of rows written lag without an upper bound (a session may go idle right
# after its commit, a count may be lost). Equal counters are trusted no longer than this.
TRUSTED_SECONDS = 3600

_HALF_OF_ALL_XIDS = 2**31


@dataclass(frozen=True, slots=True)
class Mark:
    """A snapshot of the database, with history, counters and declaration of one table.

    >>> mark = Mark("745:749:746,747", "…", "…", 1731336904)
    >>> mark.xmin, mark.xmax, mark.xip
    (745, 749, [746, 747])

    Attributes:
        snapshot: `pg_current_snapshot()`, `xmin:xmax:xip`, in transaction ids of 64 bits.
        history: transaction ids of two marks can be compared only if this is the same. It differs
            if the cluster went through recovery, was restored or replaced, or the table was
            dropped and created again.
        writes: the server's counters of rows written; the same until it counts another write.
        at: the database's clock, in seconds since 1970.
        declared: how the table is declared, see `shared.declaration`; empty in old marks.
    """

    snapshot: str
    history: str
    writes: str
    at: int
    declared: str = ""

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

    def landing(self, personal: PersonalData) -> Mark:
        """Return it with what the table's contract says of personal data: lines depend on it."""
        return replace(self, declared=with_land(self.declared, personal))


def parse_mark(content: Mapping[str, Any]) -> Mark:
    """Return the mark that `asdict` turned into this.

    Raises:
        KeyError, ValueError, TypeError, AttributeError, IndexError: it is not a mark.
    """
    content = {"declared": ""} | dict(content)
    mark = Mark(**{field.name: content[field.name] for field in fields(Mark)})
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


def may_have_deletes(before: str, now: str) -> bool:
    """Tell whether rows may have been deleted between two readings of the counters, `Mark.writes`.

    So it is if the server counted a delete, also one that was rolled back; if a file is another, as
    after TRUNCATE; if a partition came or went; and if the counters can't be compared.

    >>> may_have_deletes("1731336904 16390/16401/3/0/0", "1731336904 16390/16401/5/7/0")
    False
    >>> may_have_deletes("1731336904 16390/16401/3/0/0", "1731336904 16390/16401/3/0/1")
    True
    """
    return _of_deletes(before) != _of_deletes(now)


def _of_deletes(writes: str) -> list[tuple[str, ...]]:
    """Return the parts of the counters that a delete changes."""
    parts = [part.split("/") for part in writes.split()]
    return [(oid, *rest[:1], *rest[-1:]) for oid, *rest in parts]


class Break(NamedTuple):
    """Why a scan has to look at every row that has landed.

    Attributes:
        because: in words.
        is_declared_anew: whether the versions can still be told apart, but lines may have changed
            without new versions.
    """

    because: str
    is_declared_anew: bool = False


def break_between(done: Mark | None, now: Mark) -> Break | None:
    """Return why versions below an earlier mark may not have landed as they are; None if they have.

    >>> break_between(Mark("7:7:", "", "", 0), Mark("9:9:", "", "", 0))
    """
    if done is None:
        return Break("it has no change stream yet")
    if done.history != now.history:
        return Break(
            "the cluster crashed, was restored or replaced, or the table was created again"
        )
    if now.xmax < done.xmax:
        return Break("transaction ids went backwards: the cluster was restored")
    if now.xmax - done.xmin >= _HALF_OF_ALL_XIDS:
        return Break("more than 2^31 transactions have passed since the last scan")
    what = difference(done.declared, now.declared)
    return Break(f"it was declared anew: {what}", is_declared_anew=True) if what else None
