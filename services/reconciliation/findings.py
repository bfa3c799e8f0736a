"""What a reconciliation found, for its report and its caller."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from services.reconciliation.ids import NO_IDS, Ids

if TYPE_CHECKING:
    from collections.abc import Sequence

    from services.reconciliation.landed import Fault


@dataclass(slots=True)
class Findings:
    """What the reconciliation found for one table.

    Attributes:
        table: its name.
        watermark: the highest id that was compared.
        rows_in_source: how many rows the source has up to the watermark.
        rows_landed: how many have landed up to the watermark, in objects that claims name.
        elsewhere: how many rows of the source are only in other objects: those of the change
            stream, or that no claim names.
        pending: how many are in no object, but not missing: the change stream has yet to scan them,
            or they were deleted meanwhile.
        missing: ids of rows that are in the source and had not landed.
        brought: how many of them, and of rows that were gone and came back, are now in the change
            stream.
        without_id: how many rows of the source have no id, and so can't land.
        deleted: ids of rows that have landed and were deleted from the source; those of which the
            change stream said so before are left out.
        buried: how many ids have a tombstone in the change stream now.
        held_back: how many are not passed on to it.
        objection: why not, and what to do.
        proved: how many rows were compared by value with what has landed of them.
        differing: ids of those that are not as they landed, in a version that was delivered.
        differing_columns: in which columns some of them are not.
        days_behind: for how many days values wait to be proved beyond their turn.
        unproved: why values were not proved; empty if they were.
        faults: objects and claims that are not as they landed.
        seconds: how long the comparison took.
    """

    table: str
    watermark: int
    rows_in_source: int = 0
    rows_landed: int = 0
    elsewhere: int = 0
    pending: int = 0
    missing: Ids = field(default_factory=lambda: NO_IDS)
    brought: int = 0
    deleted: Ids = field(default_factory=lambda: NO_IDS)
    buried: int = 0
    held_back: int = 0
    objection: str = ""
    without_id: int = 0
    proved: int = 0
    differing: Ids = field(default_factory=lambda: NO_IDS)
    differing_columns: Sequence[str] = ()
    days_behind: int = 0
    unproved: str = ""
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0
