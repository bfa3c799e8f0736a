"""Compares the rows of a table that was declared anew with the lines that have landed of them.

Most changes of a declaration change lines without writing versions. So a scan reads all rows then,
and leaves out those whose line is the last one that landed. Three rules keep that exact:

1.  Before the first line lands, the mark that is done forgets its declaration. If this scan dies,
    the next one compares all lines, even if the table is declared as it was before by then.
2.  The last lines are those up to the number of the stream's last object, which was known before
    the rows were read.
3.  A row that is left out counts as delivered only once the scan has taken the next number, if need
    be with an object without lines. So nobody puts a line there that was read before.

If the streams can't be read, or only in many requests, all lines are sent. That is always exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.bucket.changes import forget_declaration
from shared.bucket.last_lines import LastLines
from shared.declaration import UNKNOWN
from shared.errors import StateError
from shared.jsonlines import to_json_lines
from shared.telemetry import logger

if TYPE_CHECKING:
    from shared.bucket.bucket import Bucket
    from shared.bucket.changes import ChangeState
    from shared.postgres.reader import Batch

# So many objects are read in a minute or two: a call has four.
_MOST_OBJECTS = 2_000


class Comparing:
    """What a scan leaves out.

    Attributes:
        has_left_out: whether rows were left out since the scan has last taken a number.
    """

    def __init__(
        self, state: ChangeState, above: int, up_to: int, because: str, bucket: Bucket
    ) -> None:
        """Find out what there is to read, and log it.

        Args:
            state: of the stream, healed.
            above: the id that the scan goes on above.
            up_to: the id that it ends at.
            because: what was declared anew.
            bucket: the bucket that the streams are in.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        self.has_left_out = False
        self._table = state.table.name
        lines = LastLines(state.table, above, state.number, bucket)
        self._lines = lines if lines.objects <= _MOST_OBJECTS else None
        if up_to:
            logger().warning(
                "The rows that have landed are compared with the table; those whose line has "
                "changed go into the change stream"
                if self._lines
                else "Every row that has landed goes into the change stream once more: to compare "
                "them would take too many requests",
                extra={
                    "table": self._table,
                    "because": because,
                    "ids_to_compare": up_to - above,
                    "objects_to_read": lines.objects,
                },
            )

    @staticmethod
    def remember(state: ChangeState, bucket: Bucket) -> ChangeState | None:
        """Let later scans know that lines are being compared, by rule 1.

        Returns:
            The state; None if another run has saved its own meanwhile.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        if state.done and state.done.declared == UNKNOWN:
            return state
        return forget_declaration(state, bucket)

    def without_landed(self, batch: Batch) -> Batch:
        """Return those rows of a batch whose line is not the last one that landed of them.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        if self._lines is None:
            return batch
        lines = to_json_lines(batch.rows).split(b"\n")[:-1]
        ids = batch.ids.to_numpy()
        try:
            is_landed = self._lines.are_same(ids, lines)
        except StateError as error:
            self._lines = None
            logger().warning(
                "What has landed can't be compared, so from here every row goes into the change "
                "stream once more",
                extra={"table": self._table, "because": str(error)},
            )
            return batch
        # Of rows that share an id, the streams have no last line.
        is_landed &= ~batch.ids.duplicated(keep=False).to_numpy()
        self.has_left_out |= bool(is_landed.any())
        return batch.only(~is_landed)
