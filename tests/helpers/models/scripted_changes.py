"""The real code with both streams, answered from a script in the language of `change_schedules`.

As `scripted`, which has the claims alone: so that the model of the changes can be held against
the code. What that model has as one step, finding out where a table stands, is one here, too, and
it reads nothing ahead.
"""

from __future__ import annotations

import json
import threading
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass, replace
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from services.ingestion import (
    Limits,
    change_scan,
    claimed,
    comparing,
    ingest,
    read_ahead,
    standing,
)
from services.ingestion import table as table_module
from shared import declaration
from shared.bucket import chain, keys, position
from shared.errors import StateError
from shared.postgres.survey import Survey
from shared.snapshot import Mark
from tests.helpers.models.change_schedules import UNKNOWN, Rows, Saved, Scan
from tests.helpers.models.scripted import (
    TABLE,
    TIMESTAMPS,
    Script,
    Unanswered,
    batch_of,
    body_of,
    format_key,
    parse_key,
    s3_error,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

    from shared.bucket.position import Position
    from shared.personal import PersonalData
    from shared.postgres.reader import Batch
    from shared.tables import Table
    from tests.helpers.models.interleavings import Request

_HISTORY = "of this cluster"
_STATE, _LATEST = keys.format_change_latest_key(TABLE), keys.format_latest_key(TABLE)


@dataclass(frozen=True)
class Time:
    """How long a run may go on: after so many batches, or so many stretches, time is up."""

    batches: int
    stretches: int


class Double(Script):
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
        if Key == keys.COMPARED_KEY:  # no row of this model is deleted
            return body_of(None, "")
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
        if keys.is_data_key(Key):  # the PUT that follows is refused if it exists: one step of both
            raise s3_error("404", 404)
        base, declared = self.ask("base of change", keys.parse_change_key(Key).number)
        said = {"base": str(base or ""), "history": _HISTORY, "declared": _declared(declared)}
        return {"Metadata": said}

    def get_paginator(self, operation: str) -> SimpleNamespace:
        assert operation == "list_objects_v2"
        return SimpleNamespace(paginate=self._paginate)

    def _paginate(
        self, Bucket: str, Prefix: str, Delimiter: str, StartAfter: str
    ) -> Iterator[dict[str, Any]]:
        last = self.ask("last change")
        known = keys.parse_change_key(StartAfter).number
        found = [keys.format_change_key(TABLE, number) for number in range(known + 1, last + 1)]
        yield {"Contents": [{"Key": key} for key in found]}

    def put_object(
        self,
        Bucket: str,
        Key: str,
        Body: bytes | IO[bytes],
        IfNoneMatch: str | None = None,
        IfMatch: str | None = None,
        Metadata: dict[str, str] | None = None,
        ChecksumCRC32: str = "",
    ) -> dict[str, str]:
        assert IfMatch or IfNoneMatch == "*"
        body, etag = whole(Body), ""
        if Key == _STATE:
            saved = _parse_state(json.loads(body))
            etag, taken = _etag(saved), self.ask("write state", _STATES.get(IfMatch), saved)
        elif Key == _LATEST:
            etag = str(json.loads(body)["latest_row_id"])
            taken = self.ask("write latest", int(IfMatch or 0), int(etag))
        else:
            assert IfNoneMatch == "*"
            taken = self._create(Key, body, Metadata or {})
        if not taken:
            raise s3_error("PreconditionFailed", 412)
        return {"ETag": etag}

    def _create(self, key: str, body: bytes, metadata: dict[str, str]) -> Any:
        if keys.is_claim_key(key):
            return self.ask("create claim", _number(key), parse_key(json.loads(body)["key"]))
        lines = [json.loads(line) for line in body.splitlines()]
        rows = tuple((line[TABLE.id_column], line["version"]) for line in lines)
        assert metadata["rows"] == str(len(rows))
        if keys.is_data_key(key):
            return self.ask("create object", parse_key(key), rows)
        base = int(metadata["base"]) if metadata["base"] else None
        declared = _parse_declared(metadata["declared"])
        return self.ask("create change", keys.parse_change_key(key).number, rows, base, declared)

    def heal_position(self, found: Position, _bucket: Any) -> Position:
        at, claimed = self.ask("find position", found.row_id)
        latest = position.Latest(at, TIMESTAMPS["A"], 1)
        return replace(found, latest=latest, claimed=claimed and format_key(claimed))

    # The database.

    def read_survey(self, _tables: Sequence[Table], _connection: Any, *, with_ids: bool) -> Survey:
        assert with_ids
        self._latest_was_read.wait()  # which the run asks for meanwhile
        base, next_xid, writes, highest, declared = self.ask("survey")
        mark = _mark(base, writes, declared, next_xid)
        return Survey({TABLE.name: highest}, {TABLE.name: mark})

    def read_new_rows(
        self,
        _table: Table,
        row_id: int,
        _connection: Any,
        limit: int,
        *,
        wait_seconds: float,
        personal: PersonalData,
        after: Batch | None,
    ) -> Batch:
        rows = self.ask("read rows", row_id, None, limit)
        self._batches += 1
        self._last_read, self._more = rows[-1][0] if rows else row_id, len(rows) == limit
        return batch_of(_frame(rows), more=self._more)

    def read_settled_parts(
        self, _table: Table, above: int, to: int, _connection: Any, *, personal: PersonalData
    ) -> Iterator[Batch]:
        yield batch_of(_frame(self.ask("read rows", above, to, None)))

    def read_stretch(
        self,
        _table: Table,
        _connection: Any,
        above: int,
        _up_to: int,
        since: Mark | None,
        _limit: int,
    ) -> tuple[int, bool]:
        self._stretches += 1
        self._changed = self.ask("read changed", since and since.xmin, above, above + 1)
        return above + 1, bool(self._changed)

    def changed_rows(self, _since: Mark | None) -> str:
        return "the rows that the stretch has shown"

    def read_batch(self, *_: Any, **__: Any) -> Batch:
        return batch_of(_frame(self._changed))

    def read_repeated(self, *_: Any) -> int:
        return 0

    def last_lines(self, _table: Table, _above: int, number: int, _bucket: Any) -> SimpleNamespace:
        found = self.ask("read landed", number)
        landed = dict(found or ())

        def are_same(ids: Any, lines: Sequence[bytes]) -> Any:
            if found is None:
                raise StateError("an object is missing")
            versions = [json.loads(line)["version"] for line in lines]
            known = [landed.get(row_id) for row_id in ids]
            return np.array(known, object) == np.array(versions, object)

        return SimpleNamespace(objects=number, are_same=are_same)

    def seconds_left(self) -> float:
        """Return 0 when time is up."""
        is_up = self._more and self._batches >= self._time.batches
        return float(not (is_up or self._stretches >= self._time.stretches))


def requests_of_ingest(
    name: str, batch_rows: int, time: Time, answers: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> list[Request]:
    """Return the requests a run makes that gets these answers: one more, unless it ends."""
    double = Double(answers, time)
    monkeypatch.setattr(standing, "read_survey", double.read_survey)
    monkeypatch.setattr(table_module, "heal_position", double.heal_position)
    monkeypatch.setattr(table_module, "follow_position", double.heal_position)
    monkeypatch.setattr(chain, "check_end", lambda *_: None)  # no claim of this model is lost
    monkeypatch.setattr(claimed, "read_settled_parts", double.read_settled_parts)
    monkeypatch.setattr(read_ahead, "new_rows", double)
    monkeypatch.setattr(read_ahead.Reader, "reading_ahead", lambda *_: nullcontext())
    monkeypatch.setattr(change_scan, "versions", double)
    monkeypatch.setattr(comparing, "LastLines", double.last_lines)
    monkeypatch.setattr(change_scan, "read_description", lambda *_: None)
    monkeypatch.setattr(change_scan, "read_batch", double.read_batch)
    monkeypatch.setattr(keys, "timestamp_now", lambda: TIMESTAMPS[name])
    limits = Limits(batch_rows, seconds_left=double.seconds_left)
    with suppress(Unanswered):
        ingest((TABLE.name,), double, None, "bucket", limits)  # type: ignore[arg-type]
    return double.requests


_STATES: dict[str | None, Saved] = {}


def _etag(saved: Saved | None) -> str:
    if saved:
        _STATES[repr(saved)] = saved
    return repr(saved)


def _mark(base: int, writes: int | None, declared: int, next_xid: int | None = None) -> Mark:
    counted = "" if writes is None else str(writes)
    return Mark(f"{base}:{next_xid or base}:", _HISTORY, counted, 1000, _declared(declared))


def _declared(number: int) -> str:
    return declaration.UNKNOWN if number == UNKNOWN else str(number)


def _parse_declared(text: str) -> int:
    return UNKNOWN if text == declaration.UNKNOWN else int(text or 0)


def _state_json(saved: Saved) -> dict[str, Any]:
    done, scan = None, None
    if saved.base is not None:
        done = asdict(_mark(saved.base, saved.writes, saved.declared))
    if saved.scan:
        base, writes, up_to, above, declared = saved.scan
        scan = {"mark": asdict(_mark(base, writes, declared)), "up_to": up_to, "above": above}
    return {"sequence": saved.sequence, "done": done, "scan": scan}


def _parse_state(said: dict[str, Any]) -> Saved:
    done, scan = said["done"], said["scan"]
    base, writes, declared = _parse_mark(done) if done else (None, None, 0)
    if scan:
        begun, counted, anew = _parse_mark(scan["mark"])
        scan = Scan(begun, counted or 0, scan["up_to"], scan["above"], anew)
    return Saved(said["sequence"], base, writes, scan, declared)


def _parse_mark(said: dict[str, Any]) -> tuple[int, int | None, int]:
    writes = int(said["writes"]) if said["writes"] else None
    return int(said["snapshot"].split(":")[0]), writes, _parse_declared(said["declared"])


def _number(claim: str) -> int:
    return int(claim.rpartition("/")[2].removesuffix(".json"))


def _frame(rows: Rows) -> pd.DataFrame:
    columns = {TABLE.id_column: [row[0] for row in rows], "version": [row[1] for row in rows]}
    return pd.DataFrame(columns, dtype="int64")
