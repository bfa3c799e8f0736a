"""The real code with both streams, answered from a script in the language of `change_schedules`.

As `replay`, which has the claims alone: so that the model of the changes can be held against the
code. What that model has as one step, finding out where a table stands, is one here, too, and it
reads nothing ahead.
"""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext, suppress
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd

from services.ingestion import ingest as ingest_module
from services.ingestion import keys, positions, reading, scans
from services.ingestion.ingest import Limits, ingest
from services.ingestion.marks import Mark
from services.ingestion.survey import Survey
from services.ingestion.versions import Stretch
from tests.helpers.change_schedules import Rows, Saved, Scan
from tests.helpers.replay import (
    TABLE,
    TIMESTAMPS,
    Script,
    Unanswered,
    body_of,
    format_key,
    parse_key,
    s3_error,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from services.ingestion.positions import Position
    from tests.helpers.interleavings import Request

_HISTORY = "of this cluster"
_STATE, _LATEST = keys.change_state_key(TABLE), keys.latest_key(TABLE)


@dataclass(frozen=True)
class Time:
    """How long a run may go on: after so many batches, or so many stretches, time is up."""

    batches: int
    stretches: int


class Replay(Script):
    """A client of S3 and a source that answer from a script and keep the requests."""

    def __init__(self, answers: Sequence[Any], time: Time) -> None:
        super().__init__(answers)
        self._time = time
        self._batches, self._stretches = 0, 0
        self._last_read, self._more = 0, False
        self._changed: Rows = ()
        self._state_was_read, self._latest_was_read = threading.Event(), threading.Event()

    # The bucket.

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        if Key == _STATE:
            return self._read_state()
        if Key == _LATEST:
            return self._read_latest()
        claimed = self.ask("read claim", _number(Key))
        self._more |= claimed.row_id > self._last_read
        return body_of({"key": format_key(claimed)})

    def _read_state(self) -> dict[str, Any]:
        try:
            saved = self.ask("read state")
        finally:
            self._state_was_read.set()
        return body_of(saved and _state_json(saved), _etag(saved))

    def _read_latest(self) -> dict[str, Any]:
        self._state_was_read.wait()  # the run asks for both at once
        try:
            row_id = self.ask("read latest")
        finally:
            self._latest_was_read.set()
        latest = {"latest_row_id": row_id, "timestamp": TIMESTAMPS["A"], "rows_ingested": 1}
        return body_of(latest if row_id else None, str(row_id))

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        base = self.ask("base of change", keys.parse_change_key(Key))
        return {"Metadata": {"base": str(base or ""), "history": _HISTORY}}

    def get_paginator(self, operation: str) -> SimpleNamespace:
        assert operation == "list_objects_v2"
        return SimpleNamespace(paginate=self._paginate)

    def _paginate(
        self, Bucket: str, Prefix: str, Delimiter: str, StartAfter: str
    ) -> Iterator[dict[str, Any]]:
        last = self.ask("last change")
        known = keys.parse_change_key(StartAfter) or 0
        found = [keys.change_key(TABLE, number) for number in range(known + 1, last + 1)]
        yield {"Contents": [{"Key": key} for key in found]}

    def put_object(
        self,
        Bucket: str,
        Key: str,
        Body: bytes,
        IfNoneMatch: str | None = None,
        IfMatch: str | None = None,
        Metadata: dict[str, str] | None = None,
    ) -> dict[str, str]:
        assert IfMatch or IfNoneMatch == "*"
        etag = ""
        if Key == _STATE:
            saved = _parse_state(json.loads(Body))
            etag, taken = _etag(saved), self.ask("write state", _STATES.get(IfMatch), saved)
        elif Key == _LATEST:
            etag = str(json.loads(Body)["latest_row_id"])
            taken = self.ask("write latest", int(IfMatch or 0), int(etag))
        else:
            assert IfNoneMatch == "*"
            taken = self._create(Key, Body, Metadata or {})
        if not taken:
            raise s3_error("PreconditionFailed", 412)
        return {"ETag": etag}

    def _create(self, key: str, body: bytes, metadata: dict[str, str]) -> Any:
        if key.startswith("claims/"):
            return self.ask("create claim", _number(key), parse_key(json.loads(body)["key"]))
        lines = [json.loads(line) for line in body.splitlines()]
        rows = tuple((line[f"{TABLE}_id"], line["version"]) for line in lines)
        assert metadata["rows"] == str(len(rows))
        number = keys.parse_change_key(key)
        if number is None:
            return self.ask("create object", parse_key(key), rows)
        base = int(metadata["base"]) if metadata["base"] else None
        return self.ask("create change", number, rows, base)

    def heal_position(self, position: Position, _bucket: Any) -> Position:
        at, claimed = self.ask("find position", position.row_id)
        latest = positions.Latest(at, TIMESTAMPS["A"], 1)
        return replace(position, latest=latest, claimed=claimed and format_key(claimed))

    # The database.

    def survey(self, _tables: Sequence[str], _connection: Any, *, with_ids: bool) -> Survey:
        assert with_ids
        self._latest_was_read.wait()  # which the run asks for meanwhile
        base, next_xid, writes, highest = self.ask("survey")
        return Survey({TABLE: highest}, {TABLE: _mark(base, writes, next_xid)})

    def get_table_data(
        self, _table: str, row_id: int, _connection: Any, limit: int, *, wait_seconds: float
    ) -> pd.DataFrame:
        rows = self.ask("read rows", row_id, None, limit)
        self._batches += 1
        self._last_read, self._more = rows[-1][0] if rows else row_id, len(rows) == limit
        frame = _frame(rows)
        frame.attrs |= {"held_back_rows": 0, "waited_seconds": 0.0, "more": self._more}
        return frame

    def get_settled_rows(self, _table: str, above: int, to: int, _connection: Any) -> pd.DataFrame:
        return _frame(self.ask("read rows", above, to, None))

    def describe(self, _table: str, _connection: Any) -> None:
        """Say nothing of the table: nobody but the source reads it."""

    def look_through(
        self,
        _table: str,
        _connection: Any,
        above: int,
        _up_to: int,
        since: Mark | None,
        _limit: int,
    ) -> tuple[int, bool]:
        self._stretches += 1
        self._changed = self.ask("read changed", since and since.base, above, above + 1)
        return above + 1, bool(self._changed)

    def get_changed_rows(
        self, _description: Any, _connection: Any, _above: int, last: int, *_: Any
    ) -> Stretch:
        return Stretch(_frame(self._changed), last, 0, 0)

    def seconds_left(self) -> float:
        """Return 0 when time is up."""
        is_up = self._more and self._batches >= self._time.batches
        return float(not (is_up or self._stretches >= self._time.stretches))


def requests_of_ingest(
    name: str, batch_rows: int, time: Time, answers: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> list[Request]:
    """Return the requests a run makes that gets these answers: one more, unless it ends."""
    replay = Replay(answers, time)
    monkeypatch.setattr(ingest_module, "source", replay)
    monkeypatch.setattr(ingest_module, "survey", replay.survey)
    monkeypatch.setattr(ingest_module, "heal_position", replay.heal_position)
    monkeypatch.setattr(reading, "source", replay)
    monkeypatch.setattr(reading.Reader, "reading_ahead", lambda *_: nullcontext())
    monkeypatch.setattr(scans, "source", replay)
    monkeypatch.setattr(scans, "versions", replay)
    monkeypatch.setattr(keys, "timestamp_now", lambda: TIMESTAMPS[name])
    limits = Limits(batch_rows, seconds_left=replay.seconds_left)
    with suppress(Unanswered):
        ingest((TABLE,), replay, None, "bucket", limits)  # type: ignore[arg-type]
    return replay.requests


_STATES: dict[str | None, Saved] = {}


def _etag(saved: Saved | None) -> str:
    if saved:
        _STATES[repr(saved)] = saved
    return repr(saved)


def _mark(base: int, writes: int | None, next_xid: int | None = None) -> Mark:
    counted = "" if writes is None else str(writes)
    return Mark(f"{base}:{next_xid or base}:", _HISTORY, counted, 1000)


def _mark_json(base: int, writes: int | None) -> dict[str, Any]:
    mark = _mark(base, writes)
    return {"snapshot": mark.snapshot, "history": _HISTORY, "writes": mark.writes, "at": mark.at}


def _state_json(saved: Saved) -> dict[str, Any]:
    done, scan = None, None
    if saved.base is not None:
        done = _mark_json(saved.base, saved.writes)
    if saved.scan:
        base, writes, up_to, above = saved.scan
        scan = {"mark": _mark_json(base, writes), "up_to": up_to, "above": above}
    return {"sequence": saved.sequence, "done": done, "scan": scan}


def _parse_state(said: dict[str, Any]) -> Saved:
    done, scan = said["done"], said["scan"]
    base, writes = _parse_mark(done) if done else (None, None)
    if scan:
        begun, counted = _parse_mark(scan["mark"])
        scan = Scan(begun, counted or 0, scan["up_to"], scan["above"])
    return Saved(said["sequence"], base, writes, scan)


def _parse_mark(said: dict[str, Any]) -> tuple[int, int | None]:
    return int(said["snapshot"].split(":")[0]), int(said["writes"]) if said["writes"] else None


def _number(claim: str) -> int:
    return int(claim.rpartition("/")[2].removesuffix(".json"))


def _frame(rows: Rows) -> pd.DataFrame:
    columns = {f"{TABLE}_id": [row[0] for row in rows], "version": [row[1] for row in rows]}
    return pd.DataFrame(columns, dtype="int64")
