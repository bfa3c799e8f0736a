"""What goes into a change stream outside of a scan: rows of a replay, tombstones of a comparison.

A scan delivers what has changed since the mark that is done. What else has to be said is put under
the next numbers, too. These rules keep the stream exact:

1.  The number of the next object is known before the source is read. If somebody else takes it,
    what was read is dropped, because an older version of a row must not follow a newer one.
2.  Only ids that have landed are named: those up to the front, which was found before the number.
3.  The objects' metadata holds the mark that is done, and latest.json keeps it: only a scan knows
    that all versions below a mark have been delivered.
4.  A table without a mark, or whose marks can't be compared, is left to the next scan.

tests/unit/test_deletes_model.py leaves out each.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from shared.bucket.changes import find_last_number, put_changes, save_change_state
from shared.snapshot import break_between

if TYPE_CHECKING:
    from shared.bucket.bucket import Bucket, Landed
    from shared.bucket.changes import ChangeState
    from shared.lines import Lines
    from shared.snapshot import Mark

_NO_XMIN = (
    "its rows have no xmin: it, or a partition, is a view, a foreign table, or not in the heap"
)


class Additions:
    """What is added to one table's change stream.

    Attributes:
        objection: why nothing can be added; None if something can.
        is_overtaken: whether somebody else took the next number: what was read is to be dropped.
    """

    def __init__(self, state: ChangeState, mark: Mark | None, bucket: Bucket) -> None:
        """Begin behind the last object; the source is to be read after this.

        Args:
            state: of the stream, healed.
            mark: taken now; None if the table's rows have no versions.
            bucket: the bucket that the stream is in.
        """
        self._state, self._bucket = state, bucket
        self.objection = _NO_XMIN if mark is None else None
        if mark and (broken := break_between(state.done, mark)):
            self.objection = broken.because
        self.is_overtaken = False

    def put(self, lines: Lines) -> Landed | None:
        """Put lines into the stream as its next object.

        Returns:
            The object; None, having changed nothing, if the lines are to be dropped.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        done = self._state.done
        if self.objection or self.is_overtaken or done is None:
            return None
        put = put_changes(self._state, lines, done, self._bucket)
        if put is None:
            self.is_overtaken = True
            return None
        self._state, landed = put
        return landed

    def catch_up(self) -> None:
        """Go behind the last object; the source is to be read again after this.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        self._state = replace(self._state, number=find_last_number(self._state, self._bucket))
        self.is_overtaken = False

    def save(self) -> None:
        """Let the stream's latest.json say which object is the last, and nothing else new.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        latest = self._state.pointer.value
        if latest and latest.number < self._state.number:
            self._state = save_change_state(self._state, self._bucket)
