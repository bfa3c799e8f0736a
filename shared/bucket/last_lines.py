"""The last line of each row in the two streams, by its print: to find rows whose line is another.

The objects of the first stream are read as far as they are asked for, those of the change stream
all at once. A million rows of a change stream take 16 MB here.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shared.bucket import keys
from shared.bucket.chain import follow_claims
from shared.bucket.objects import damaged, get_lines
from shared.errors import StateError
from shared.json_reader import parse_line
from shared.prints import last_places, prints_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.bucket.bucket import Bucket
    from shared.tables import Table

    type Array = np.ndarray[Any, Any]

_HELD_LINES = 500_000  # of changes, before only the last of each row is kept


class _Words(NamedTuple):
    """Lines of rows, each by its id and its print."""

    ids: Array
    prints: Array

    def chosen(self, which: Array) -> _Words:
        return _Words(self.ids[which], self.prints[which])

    def last(self) -> _Words:
        """Return the last line of each row, ascending by id."""
        return self.chosen(last_places(self.ids))


_NO_WORDS = _Words(np.empty(0, np.int64), np.empty(0, np.uint64))


class LastLines:
    """What both streams of a table say last of its rows.

    Attributes:
        objects: how many objects there are to read.
    """

    def __init__(self, table: Table, above: int, number: int, bucket: Bucket) -> None:
        """List the claims; no object is read yet.

        Args:
            table: the table.
            above: rows with ids above this one will be asked for, ascending.
            number: of the last object of the change stream.
            bucket: the bucket.

        Raises:
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        self._table, self._number, self._bucket = table, number, bucket
        self._first_member = f"{{{json.dumps(table.id_column)}:".encode()
        found = filter(keys.is_claim_key, bucket.keys(keys.claim_folder(table)))
        starts = sorted(keys.parse_claim_key(key).row_id for key in found)
        first = max(0, bisect_right(starts, above) - 1)
        self.objects = len(starts) - first + number
        self._batches = follow_claims(table, starts[first] if starts else 0, bucket)
        self._up_to = above
        self._landed = _NO_WORDS
        self._changed: _Words | None = None

    def are_same(self, ids: Array, lines: Sequence[bytes]) -> Array:
        """Tell for each of some rows whether this line is the last one that landed.

        Args:
            ids: of the rows, ascending, and above those that were asked for before.
            lines: of the rows, without line feeds.

        Raises:
            StateError: an object is missing or not valid, so the last lines are not known.
            LandingError, LandingUnavailableError: S3 refuses, or fails.
        """
        if not len(ids):
            return np.empty(0, bool)
        changed = self._changed = self._changed or self._read_changes()
        self._read_batches(int(ids[-1]))
        prints, same = prints_of(lines), np.zeros(len(ids), bool)
        for words in (self._landed.last(), changed):
            places = np.searchsorted(words.ids, ids)
            places[places == len(words.ids)] = 0
            if len(words.ids):
                is_known = words.ids[places] == ids
                same = np.where(is_known, words.prints[places] == prints, same)
        self._landed = self._landed.chosen(self._landed.ids > ids[-1])
        return same

    def _read_batches(self, up_to: int) -> None:
        """Read the batches that hold rows up to an id."""
        read = [self._landed]
        while self._up_to < up_to:
            batch = next(self._batches, None)
            if batch is None:
                raise StateError(f"No claim of {self._table.name!r} has row {up_to}.")
            read.append(self._read(batch.key))
            self._up_to = keys.parse_data_key(batch.key).row_id
        self._landed = _joined(read)

    def _read_changes(self) -> _Words:
        held = _NO_WORDS
        read: list[_Words] = []
        for number in range(1, self._number + 1):
            read.append(self._read(keys.format_change_key(self._table, number)))
            if sum(len(words.ids) for words in read) >= _HELD_LINES:
                held, read = _joined([held, *read]).last(), []
        return _joined([held, *read]).last()

    def _read(self, key: str) -> _Words:
        body = get_lines(key, self._bucket)
        if body is None:
            raise damaged(key, "is missing", self._bucket)
        lines = body.split(b"\n")[:-1]
        try:
            ids = [self._id(line) for line in lines]
        except (ValueError, KeyError, TypeError) as error:
            raise damaged(key, "has lines that are no rows", self._bucket) from error
        return _Words(np.array(ids, np.int64), prints_of(lines))

    def _id(self, line: bytes) -> int:
        # As a rule the id is the first member; to parse the line takes ten times as long.
        digits, comma, _ = line[len(self._first_member) :].partition(b",")
        if comma and line.startswith(self._first_member):
            return int(digits)
        row_id: int = parse_line(line)[self._table.id_column]
        return row_id


def _joined(words: Sequence[_Words]) -> _Words:
    return _Words(
        np.concatenate([each.ids for each in words]),
        np.concatenate([each.prints for each in words]),
    )
