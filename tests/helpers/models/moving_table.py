"""A table in motion and all that lands of it, step by step: for readers to read meanwhile.

The rules are those of docs/exactness.md. Each of a run's requests is a step of its own, and so are
its reads, so that anything may happen between them, and any of it may be the last.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from shared.bucket import keys
from shared.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from tests.helpers.models.memory_s3 import MemoryS3

THING = Table("thing")
_TIME = "2024-11-11T15-03-24"


class MovingTable:
    """The table `thing`, and what happens to it by chance.

    Attributes:
        rows: the version of each row that there is.
        had: all versions that each row has had.
    """

    def __init__(self, s3: MemoryS3, random: Random) -> None:
        """Begin without rows, in a bucket without objects."""
        self.rows: dict[int, int] = {}
        self.had: dict[int, set[int]] = {}
        self._s3, self._random = s3, random
        self._objects = s3.objects
        self._drawn = self._versions = self._front = self._number = 0
        self._chain: dict[int, int] = {}  # where batches begin and end
        self._unheard: set[int] = set()  # rows with a version that no object has
        self._gone: set[int] = set()  # ids that landed and have no row, nor a tombstone
        self._writers: list[Iterator[None]] = []

    def step(self) -> None:
        """Let one thing happen."""
        ways = [self._insert, self._update, self._delete, self._put_in_again]
        ways += [self._work] * 5 + [self._run]
        self._random.choice(ways)()

    def settle(self) -> None:
        """Let all that there is land."""
        self._writers.clear()
        while max(self.rows, default=0) > self._front:
            list(self._land())
        list(self._scan())
        list(self._bury())

    def _run(self) -> None:
        """Let two whole runs happen, as they may between two requests of a reader."""
        list(self._land())
        if self._front in self.rows:
            self._write(self._front)
        list(self._scan())

    def _insert(self) -> None:
        self._drawn += self._random.randint(1, 3)  # not every id that is drawn is used
        self._write(self._drawn)

    def _update(self) -> None:
        if self.rows:
            self._write(self._random.choice(sorted(self.rows)))

    def _delete(self) -> None:
        if self.rows:
            row_id = self._random.choice(sorted(self.rows))
            del self.rows[row_id]
            self._gone.add(row_id)

    def _put_in_again(self) -> None:
        again = sorted(self.had.keys() - self.rows.keys())
        if again:
            self._write(self._random.choice(again))

    def _write(self, row_id: int) -> None:
        self._versions += 1
        self.rows[row_id] = self._versions
        self.had.setdefault(row_id, set()).add(self._versions)
        self._unheard.add(row_id)
        self._gone.discard(row_id)

    def _work(self) -> None:
        """Let a run or a reconciliation do its next step, or begin one."""
        begin = self._random.choice([self._land, self._scan, self._bury, None, None])
        if begin:
            self._writers = [*self._writers[-2:], begin()]  # the oldest one dies
        if self._writers:
            writer = self._random.choice(self._writers)
            if next(writer, "end") == "end":
                self._writers.remove(writer)

    def _land(self) -> Iterator[None]:
        """Claim rows behind all that is claimed, or land a batch that is, in any order."""
        waiting = [each for each in self._chain.items() if self._key(each[1]) not in self._objects]
        last = max(self._chain.values(), default=0)
        new = sorted(row_id for row_id in self.rows if row_id > last)
        if new and (not waiting or self._random.random() < 0.5):
            end = new[self._random.randrange(len(new))]
            claim = keys.format_claim_key(THING, last)
            self._s3.put(claim, json.dumps({"key": self._key(end)}).encode())
            self._chain[last] = end
            waiting.append((last, end))
            yield
        if not waiting:
            return
        above, end = self._random.choice(waiting)
        # An id above the front that is put in again is as good as one that was there late.
        rows = self._lines(row_id for row_id in self.rows if above < row_id <= end)
        yield
        if self._s3.put_lines(self._key(end), rows):
            landed = {row["thing_id"]: row["version"] for row in rows}
            self._unheard -= {
                row_id for row_id in landed if self.rows.get(row_id) == landed[row_id]
            }
        while (end := self._chain.get(self._front, 0)) and self._key(end) in self._objects:
            self._front = end
        if self._random.random() < 0.5:  # else latest.json lags
            latest = {"latest_row_id": self._front, "timestamp": _TIME, "rows_ingested": 0}
            self._objects[keys.format_latest_key(THING)] = (json.dumps(latest).encode(), {})

    def _key(self, end: int) -> str:
        return keys.format_data_key(THING, end, _TIME)

    def _scan(self) -> Iterator[None]:
        """Put rows that have landed and have changed into the change stream, and some others."""
        number, front = self._number + 1, self._front
        yield
        versions = dict(self.rows)
        again = set(versions) if self._random.random() < 0.05 else set()
        changed = {row_id for row_id in self._unheard | again if row_id <= front}
        rows = self._lines(row_id for row_id in changed if row_id in versions)
        yield
        if rows and self._put_change(number, rows):
            heard = {row_id for row_id in changed if self.rows.get(row_id) == versions.get(row_id)}
            self._unheard -= heard

    def _bury(self) -> Iterator[None]:
        """Put tombstones of what landed and is gone; some twice."""
        front, number = self._front, self._number + 1
        yield
        had = [row_id for row_id in self.had if row_id <= front and row_id not in self.rows]
        gone = sorted(
            row_id for row_id in had if row_id in self._gone or self._random.random() < 0.2
        )
        yield
        if gone and self._put_change(number, [_tombstone(row_id) for row_id in gone]):
            self._gone -= set(gone)

    def _put_change(self, number: int, rows: list[dict[str, Any]]) -> bool:
        """Put an object of changes, unless somebody else has put one under its number."""
        is_put = self._s3.put_lines(keys.format_change_key(THING, number), rows)
        self._number = max(self._number, number)
        return is_put

    def _lines(self, row_ids: Any) -> list[dict[str, Any]]:
        return [{"thing_id": row_id, "version": self.rows[row_id]} for row_id in sorted(row_ids)]


def _tombstone(row_id: int) -> dict[str, Any]:
    return {"thing_id": row_id, "_deleted": True}
