"""Says in the change stream what the two streams did not say: which rows are gone, which came back.

A row that landed and is not in the source becomes a tombstone, `{"payment_id":5,"_deleted":true}`.
A row that is in the source in an old version, and whose last word is a tombstone or nothing, is no
change to any scan: it was in a partition that was detached and attached again. So it goes into the
stream as it is. `shared.bucket.additions` has the rules for both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bucket import changes, keys
from shared.bucket.additions import Additions
from shared.lines import tombstones
from shared.postgres.survey import read_survey
from shared.snapshot import break_between
from shared.tables import TOMBSTONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pg8000.native import Connection

    from services.reconciliation.ids import Ids
    from shared.bucket.bucket import Bucket
    from shared.bucket.changes import ChangeState
    from shared.lines import Lines
    from shared.personal import PersonalData
    from shared.tables import Table

# So many lines are in one object at most.
_LINES = 50_000

# Fewer deletes than these are passed on, whatever share of the table they are.
_MANY, _MANY_OF_MANY = 1_000, 5
_OF_FEW, _HALF = 20, 2


class Corrections:
    """What a comparison of a table may say in its change stream.

    Attributes:
        done: the mark that tells old versions from new ones; None if there is none, or if it can't
            be compared.
        mark: taken before the source was compared; None if the table has no versions.
        is_broken: whether the marks can't be compared: every row goes into the stream once more.
    """

    def __init__(
        self,
        state: ChangeState,
        number: int,
        bucket: Bucket,
        connection: Connection,
        personal: PersonalData,
    ) -> None:
        """Look at the database and the stream; the source is to be compared after that.

        Args:
            state: of the stream, as in its latest.json, which was read first.
            number: of the last object that the comparison knows.
            bucket: the bucket.
            connection: a session of the database.
            personal: which columns of the table must not land as they are.

        Raises:
            SourceError, SourceUnavailableError: see `read_survey`.
            LandingError, LandingUnavailableError: see `Bucket`.
        """
        self._table, self._connection = state.table, connection
        self._personal = personal
        seen = read_survey([state.table], connection, with_ids=False)
        taken = seen.marks.get(state.table.name)
        self.mark = taken and taken.landing(personal)
        self._declared = seen.declared.get(state.table.name, ())
        state = _with_last_mark(state, number, bucket)
        self.is_broken = bool(self.mark and break_between(state.done, self.mark))
        self.done = state.done if self.mark and not self.is_broken else None
        self._additions = Additions(replace(state, number=number), self.mark, bucket)
        known = keys.format_change_key(state.table, number)
        behind = bucket.keys(keys.change_folder(state.table), after=known)
        self._additions.is_overtaken = any(map(keys.is_change_key, behind))

    @property
    def is_overtaken(self) -> bool:
        """Whether another run or reconciliation was faster."""
        return self._additions.is_overtaken

    @property
    def can_be_said(self) -> bool:
        """Whether something can be said: not before the table's first scan has ended."""
        return self._additions.objection is None and not self.is_overtaken

    def objection(self, gone: int, rows: int, accepted: int) -> str:
        """Return why so many deletes are not passed on, and what to do; empty if they are.

        Args:
            gone: how many rows are gone.
            rows: of how many.
            accepted: how many somebody has confirmed.
        """
        if gone and any(name == TOMBSTONE for name, *_ in self._declared):
            return (
                f"The table has a column {TOMBSTONE!r}, so its rows can't be told from tombstones. "
                "Rename it, or name the table in `withoutChanges`"
            )
        if gone > accepted and is_mass_delete(gone, rows):
            return (
                f"{gone} of {rows} rows are gone. If they were deleted: make reconcile "
                f"TABLE={self._table.name} ACCEPT_DELETES={gone}. If not, a right was taken away, "
                "or a backup restored"
            )
        return ""

    def bury(self, ids: Ids) -> int:
        """Put tombstones into the stream; return how many.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        return sum(map(self._put, _tombstones(ids, self._table)))

    def bring(self, ids: Ids) -> int:
        """Put rows into the stream as they are now; return how many there were.

        Raises:
            SourceError, SourceUnavailableError: see `read_rows_of`.
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        rows = _rows(ids, self._table, self._connection, self._personal)
        return sum(map(self._put, rows))

    def save(self) -> None:
        """Let the stream's latest.json say which object is the last, and nothing else new.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        self._additions.save()

    def _put(self, lines: Lines) -> int:
        landed = self._additions.put(lines)
        return landed.rows if landed else 0


def is_mass_delete(gone: int, rows: int) -> bool:
    """Tell whether so many rows of a table are gone that somebody should confirm it.

    A right that was taken away from some rows, or an old backup, looks like that.

    >>> is_mass_delete(1, 1), is_mass_delete(9, 20), is_mass_delete(11, 20)
    (True, False, True)
    >>> is_mass_delete(1_000, 2_500), is_mass_delete(1_001, 5_000), is_mass_delete(1_001, 9_000)
    (False, True, False)
    """
    return (
        (gone > 0 and gone == rows)
        or (rows >= _OF_FEW and gone * _HALF > rows)
        or (gone > _MANY and gone * _MANY_OF_MANY > rows)
    )


def _with_last_mark(state: ChangeState, number: int, bucket: Bucket) -> ChangeState:
    """Return the state with the mark of its last object, if its latest.json is lost."""
    if state.pointer.value or not number:
        return state
    return changes.heal_change_state(state, bucket)


def _tombstones(ids: Ids, table: Table) -> Iterator[Lines]:
    for first in range(0, len(ids), _LINES):
        yield tombstones(ids[first : first + _LINES].tolist(), table)


def _rows(
    ids: Ids, table: Table, connection: Connection, personal: PersonalData
) -> Iterator[Lines]:
    if not len(ids):
        return
    from shared.jsonlines import render  # imports pandas
    from shared.postgres.reader import read_rows_of

    above = 0
    while len(ids := ids[ids > above]):
        batch = read_rows_of(table, ids[:_LINES].tolist(), above, connection, personal)
        above = batch.last_id if batch.more else int(ids[:_LINES][-1])
        if len(batch.rows):
            yield render(batch.rows)
