"""Says in the change stream what the two streams did not say: which rows are gone, which came back.

A row that landed and is not in the source becomes a tombstone, `{"payment_id":5,"_deleted":true}`.
A row that is in the source in an old version, and whose last word is a tombstone or nothing, is no
change to any scan: it was in a partition that was detached and attached again. It goes into the
stream as it is. Five rules keep the stream exact; tests/unit/test_deletes_model.py leaves out each:

1.  The number of the next object is known before the source is read. If another run or
    reconciliation was faster, what was read is dropped: the next comparison looks again.
2.  Only ids that have landed are named: those up to the front, which was found before the number.
3.  The objects' metadata holds the mark that is done, and that mark is left as it is: only a scan
    knows that all versions below a mark have been delivered.
4.  What comes back is written by us: no scan delivers a version that is older than its mark.
5.  A table without a mark, or whose marks can't be compared, is left to the next scan.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bucket import changes, keys
from shared.postgres.survey import read_survey
from shared.snapshot import break_between
from shared.tables import TOMBSTONE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pg8000.native import Connection

    from services.reconciliation.ids import Ids
    from shared.bucket.bucket import Bucket
    from shared.bucket.changes import ChangeState
    from shared.jsonlines import Lines
    from shared.personal import PersonalData
    from shared.snapshot import Mark
    from shared.tables import Table

# So many lines are in one object at most.
_LINES = 50_000

# Fewer deletes than these are passed on, whatever share of the table they are.
_MANY, _MANY_OF_MANY = 1_000, 5
_OF_FEW, _HALF = 20, 2


class Corrections:
    """What a comparison of a table may say in its change stream.

    Attributes:
        done: the mark that tells old versions from new ones; None if there is none.
        mark: taken before the source was compared; None if the table has no versions.
        is_broken: whether the marks can't be compared: every row goes into the stream once more.
        is_overtaken: whether another run or reconciliation was faster.
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
        self._table, self._bucket, self._connection = state.table, bucket, connection
        self._personal = personal
        seen = read_survey([state.table], connection, with_ids=False)
        self.mark: Mark | None = seen.marks.get(state.table.name)
        self._declared = seen.declared.get(state.table.name, ())
        state = _known_mark(state, number, bucket)
        self.done = state.done if self.mark else None
        self.is_broken = bool(self.mark and break_between(state.done, self.mark))
        self._state = replace(state, number=number)
        known = keys.format_change_key(state.table, number)
        behind = bucket.keys(keys.change_folder(state.table), after=known)
        self.is_overtaken = any(map(keys.is_change_key, behind))

    @property
    def can_be_said(self) -> bool:
        """Whether something can be said: not before the table's first scan has ended."""
        return self.done is not None and not self.is_broken and not self.is_overtaken

    @property
    def known_mark(self) -> Mark | None:
        """The mark that tells old versions from new ones; None if there is none now."""
        return None if self.is_broken else self.done

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
        pointer = self._state.pointer
        if pointer.value and pointer.value.number < self._state.number:
            changes.save_change_state(self._state, self._bucket)

    def _put(self, lines: Lines) -> int:
        if self.is_overtaken or self.mark is None:
            return 0
        put = changes.put_changes(self._state, lines, self.mark, self._bucket)
        if put is None:
            self.is_overtaken = True
            return 0
        self._state, landed = put
        return landed.rows


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


def _known_mark(state: ChangeState, number: int, bucket: Bucket) -> ChangeState:
    """Return the state with the mark of its last object, if its latest.json is lost."""
    if state.pointer.value or not number:
        return state
    return changes.heal_change_state(state, bucket)


def _tombstones(ids: Ids, table: Table) -> Iterator[Lines]:
    if not len(ids):
        return
    from shared.jsonlines import Lines  # imports pandas

    start, end = f"{{{json.dumps(table.id_column)}:", f',"{TOMBSTONE}":true}}\n'
    for first in range(0, len(ids), _LINES):
        some = ids[first : first + _LINES].tolist()
        yield Lines(len(some), "".join(f"{start}{row_id}{end}" for row_id in some).encode())


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
