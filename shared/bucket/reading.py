"""What is new of a table in the bucket, for services that use what landed.

A checkpoint is an id p and a number n: all rows up to p, and all changes up to n, have been handed
out. The rows are behind the claims above p, the changes in the objects above n. Three rules make
the copy of whoever applies them the table, wherever it stops and however often it begins again:

1.  Changes are listed before rows are read, and handed out only once all rows that had landed by
    then have been. Only rows that have landed can change (docs/exactness.md, section 4). So a
    change is never followed by an older version of its row out of the first stream.
2.  Within a call, changes come after rows, in the order of their numbers; the last line of an id
    counts.
3.  What is handed out again after a crash begins at an earlier checkpoint and goes through all
    that followed it, so it ends with the same last lines.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from shared.bucket import keys
from shared.bucket.bucket import Bucket
from shared.bucket.chain import consecutive_keys, follow_claims
from shared.bucket.last_words import LastWords
from shared.bucket.objects import damaged, get_lines
from shared.bucket.position import get_position
from shared.contracts.contract import load
from shared.contracts.frames import NotARowError
from shared.contracts.schema import POSTGRESQL_TYPE
from shared.errors import StateError
from shared.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pandas as pd
    from mypy_boto3_s3 import S3Client

    from shared.contracts.contract import Contract

_ID = {POSTGRESQL_TYPE: "bigint", "type": "integer"}  # all that is known without a contract


class New(NamedTuple):
    """What is new of a table since a checkpoint.

    Attributes:
        upserts: the last version of each row that is new or has changed, ascending by id.
        deleted: the ids of the rows that were deleted, ascending; none of them is in `upserts`.
        checkpoint: how far this goes: the text to call `read_new` with next.
    """

    upserts: pd.DataFrame
    deleted: list[int]
    checkpoint: str


class _Checkpoint(NamedTuple):
    """The last id and the last number that have been handed out."""

    row_id: int = 0
    number: int = 0


def read_new(
    table: str,
    checkpoint: str | None,
    client: S3Client,
    bucket_name: str,
    limit: int | None = None,
) -> New:
    """Return what is new of a table since a checkpoint.

    Apply the upserts by id, then the deletions, then store the checkpoint: your copy is the table,
    up to the last run. If you stop anywhere before the checkpoint is stored, do it again from the
    stored one. Rows may be handed out more than once, and an id that is deleted may be unknown to
    you.

        new = read_new("payment", checkpoint, boto3.client("s3"), "prod-ingestion-bucket")

    `upserts` has the columns of the table's contract (`shared/contracts`), in the types in which
    `get_table_data` returns them: money is Decimal, timestamps are datetime64[us]. A column that
    was added later is null in older rows. JSON documents are text. Rows that break their contract
    have landed, too: a column that the contract does not know comes last, and holds objects as JSON
    has them; a column in which a value does not fit the type holds such objects, too. A column that
    the contract drops by `x-land` is left out, and one that it hashes is text.

    If nothing is new, there are no upserts and no deletions, the checkpoint is the one given, and
    this took two requests.

    Args:
        table: its name.
        checkpoint: what the last call returned; None to read everything.
        client: boto3 client of S3, which may list the bucket and get its objects.
        bucket_name: the bucket.
        limit: about how many rows to return at most; at least one object is read, and one that
            exceeds the limit is read to its end. Call again until the checkpoint stays the same.
            None returns all there are.

    Raises:
        LandingError: S3 refuses: no such bucket, no permission.
        LandingUnavailableError: S3 fails, is overloaded or can't be reached: worth a retry.
        StateError: the checkpoint is none of this table; or an object is missing or not valid,
            which the message names. Nothing is skipped: the error lasts until it is restored.
        ConfigError: the contract is not valid.
        ValueError: `limit` is below 1.
    """
    if limit is not None and limit < 1:
        raise ValueError(f"limit must be at least 1, not {limit}.")
    reader = _Reader(Table(table), Bucket(client, bucket_name), limit)
    read = reader.read(_parse_checkpoint(table, checkpoint))
    return New(*reader.words.rows(), _format_checkpoint(table, read))


def _format_checkpoint(table: str, checkpoint: _Checkpoint) -> str:
    return f"{table}/{checkpoint.row_id}/{checkpoint.number}"


def _parse_checkpoint(table: str, text: str | None) -> _Checkpoint:
    if text is None:
        return _Checkpoint()
    form = rf"{re.escape(table)}/(\d{{1,19}})/(\d{{1,10}})"
    found = re.fullmatch(form, text, re.ASCII) if isinstance(text, str) else None
    if found is None:
        raise StateError(
            f"{text!r} is not a checkpoint of {table!r}, like '{table}/1526/12'. Pass the one that "
            "`read_new` returned for this table, or None to read everything."
        )
    return _Checkpoint(int(found[1]), int(found[2]))


class _Reader:
    """Reads the objects behind a checkpoint, in order, up to a limit."""

    def __init__(self, table: Table, bucket: Bucket, limit: int | None) -> None:
        contract: Contract = load(table) or {table.id_column: _ID}
        self.words = LastWords(table, contract)
        self._table, self._bucket, self._limit = table, bucket, limit

    def read(self, start: _Checkpoint) -> _Checkpoint:
        """Read what is behind a checkpoint; return how far that went."""
        # Before the rows: see rule 1. Hardly any object is empty, so no more than `limit` of them
        # are worth listing.
        changes = list(islice(self._change_keys(start.number), self._limit))
        row_id, is_end = self._read_rows(start.row_id)
        number = self._read_changes(changes, start.number, row_id) if is_end else start.number
        return _Checkpoint(row_id, number)

    def _is_full(self) -> bool:
        return self._limit is not None and len(self.words) >= self._limit

    def _read_rows(self, row_id: int) -> tuple[int, bool]:
        """Read rows above an id; return the last id, and whether all that has landed was read."""
        for key, _ in follow_claims(self._table, row_id, self._bucket):
            end = keys.parse_data_key(key).row_id
            if self._read_object(key) is None:
                # What is claimed and has not landed is the end, also where others have landed
                # behind it.
                if get_position(self._table, self._bucket).row_id < end:
                    break
                self._read_existing(key)  # it has landed since we looked; if not, it is lost
            row_id = end
            if self._is_full():
                return row_id, False
        return row_id, True

    def _read_changes(self, changes: Sequence[str], number: int, row_id: int) -> int:
        """Read objects of the change stream; return the last number.

        Args:
            changes: the keys behind `number`.
            number: of the last object that was handed out.
            row_id: the last id that landed.
        """
        for key in consecutive_keys(self._table, number, changes, self._bucket):
            if self._read_existing(key, may_delete=True) > row_id:
                claim = keys.format_claim_key(self._table, row_id)
                fault = f"or the object that it names is missing: {key} has rows above id {row_id}"
                raise damaged(claim, fault, self._bucket)
            number += 1
            if self._is_full():
                break
        return number

    def _read_existing(self, key: str, *, may_delete: bool = False) -> int:
        highest = self._read_object(key, may_delete=may_delete)
        if highest is None:
            raise damaged(key, "is missing", self._bucket)
        return highest

    def _read_object(self, key: str, *, may_delete: bool = False) -> int | None:
        """Read an object; return its highest id, 0 if it is empty, None if it does not exist."""
        lines = get_lines(key, self._bucket)
        if lines is None:
            return None
        try:
            return self.words.add(lines.split(b"\n")[:-1], may_delete=may_delete)
        except NotARowError as error:
            fault = f"is altered: its line {error.line} is not a row of {self._table.name!r}"
            raise damaged(key, fault, self._bucket) from error

    def _change_keys(self, number: int) -> Iterator[str]:
        folder = keys.change_folder(self._table)
        after = keys.format_change_key(self._table, number)
        return filter(keys.is_change_key, self._bucket.keys(folder, after))
