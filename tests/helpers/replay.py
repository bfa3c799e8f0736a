"""The real code, answered from a script: which request it makes next, given the answers so far.

Stands between `ingest` and both boto3 and the database, and speaks the language of
`tests.helpers.interleavings`, so that the model can be held against the code.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pandas as pd
from botocore.exceptions import ClientError

from services.ingestion import Limits, get_latest_id, ingest, read_ahead, standing, write_table_data
from services.ingestion import table as table_module
from shared.bucket import keys
from shared.postgres.catalogue import Column, Description
from shared.postgres.reader import Batch
from shared.postgres.survey import Survey
from shared.tables import Table
from tests.helpers.interleavings import Key, Latest, Request
from tests.helpers.steps import Immediately

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

TABLE = Table("thing")


class Unanswered(BaseException):
    """The script has ended; a BaseException, because the code under test catches all others."""


class Replay:
    """A client of S3 and a source that answer from a script and keep the requests."""

    def __init__(self, answers: Sequence[Any]) -> None:
        self.requests: list[Request] = []
        self._answers = answers
        self._latest_was_read = threading.Event()

    def _ask(self, *request: Any) -> Any:
        self.requests.append(request)
        if len(self.requests) > len(self._answers):
            raise Unanswered
        return self._answers[len(self.requests) - 1]

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        name = Key.rpartition("/")[2]
        if name == "latest.json":
            try:
                latest = self._ask("read latest")
            finally:
                self._latest_was_read.set()
            return _body(latest and _latest_json(latest), repr(latest))
        claimed = self._ask("read claim", int(name.removesuffix(".json")))
        return _body(claimed and {"key": _format(claimed)})

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        rows = self._ask("head", _parse(Key))
        if rows is None:
            raise _error("404", 404)
        return {"Metadata": {"rows": str(rows)}}

    def get_paginator(self, operation: str) -> SimpleNamespace:
        assert operation == "list_objects_v2"
        return SimpleNamespace(paginate=self._paginate)

    def _paginate(
        self, Bucket: str, Prefix: str, Delimiter: str, StartAfter: str
    ) -> Iterator[dict[str, Any]]:
        key = self._ask("list")
        yield {"Contents": [{"Key": _format(key)}]} if key else {}

    def put_object(
        self,
        Bucket: str,
        Key: str,
        Body: bytes,
        IfNoneMatch: str | None = None,
        IfMatch: str | None = None,
        Metadata: dict[str, str] | None = None,
    ) -> dict[str, str]:
        if Key.endswith("/latest.json"):
            said = json.loads(Body)
            maker = _MAKERS[said["timestamp"]]
            latest = Latest(said["latest_row_id"], maker, said["rows_ingested"])
            assert IfMatch or IfNoneMatch == "*"
            etag = repr(latest)
            taken = self._ask("write latest", _LATESTS.get(IfMatch), latest)
            _LATESTS[etag] = latest
        else:
            assert IfNoneMatch == "*"
            taken, etag = self._create(Key, Body, Metadata), ""
        if not taken:
            raise _error("PreconditionFailed", 412)
        return {"ETag": etag}

    def _create(self, key: str, body: bytes, metadata: dict[str, str] | None) -> bool:
        if keys.is_claim_key(key):
            above = int(key.rpartition("/")[2].removesuffix(".json"))
            return bool(self._ask("create claim", above, _parse(json.loads(body)["key"])))
        rows = tuple(json.loads(line)[TABLE.id_column] for line in body.splitlines())
        assert metadata == {"rows": str(len(rows))}
        return bool(self._ask("create object", _parse(key), rows))

    def read_survey(self, _tables: Sequence[Table], _connection: Any, *, with_ids: bool) -> Survey:
        assert with_ids
        self._latest_was_read.wait()  # which the run asks for meanwhile
        if not self._answers:
            raise Unanswered
        at = self._answers[0].row_id if self._answers[0] else 0
        return Survey({TABLE.name: at + int(self._ask("look for news", at))})

    def read_new_rows(
        self,
        table: Table,
        row_id: int,
        _connection: Any,
        limit: int | None = None,
        *,
        wait_seconds: float = 0,
    ) -> Batch:
        rows = self._ask("read rows", row_id, limit)
        return _batch(table, rows, more=len(rows) == limit)

    def read_settled_rows(self, table: Table, above: int, to: int, _connection: Any) -> Batch:
        return _batch(table, self._ask("read settled rows", above, to))


def requests_of_ingest(
    name: str, batch_rows: int, answers: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> list[Request]:
    """Return the requests a run makes that gets these answers: one more, unless it ends."""
    replay = Replay(answers)
    monkeypatch.setattr(table_module, "read_settled_rows", replay.read_settled_rows)
    monkeypatch.setattr(read_ahead, "new_rows", replay)
    monkeypatch.setattr(read_ahead, "ThreadPoolExecutor", Immediately)
    monkeypatch.setattr(standing, "read_survey", replay.read_survey)
    monkeypatch.setattr(keys, "timestamp_now", lambda: _TIMESTAMPS[name])
    limits = Limits(batch_rows, without_changes=(TABLE.name,))
    with suppress(Unanswered):
        ingest((TABLE.name,), replay, None, "bucket", limits)  # type: ignore[arg-type]
    return replay.requests


def requests_of_functions(
    name: str, batch_rows: int, answers: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> list[Request]:
    """Return the requests of the three functions, called one after the other, as above."""
    replay = Replay(answers)
    monkeypatch.setattr(keys, "timestamp_now", lambda: _TIMESTAMPS[name])
    with suppress(Unanswered):
        row_id = get_latest_id(TABLE.name, replay, "bucket")  # type: ignore[arg-type]
        rows = replay.read_new_rows(TABLE, row_id, None, batch_rows).rows
        write_table_data(TABLE.name, rows, replay, "bucket")  # type: ignore[arg-type]
    return replay.requests


_TIMESTAMPS = {name: f"2024-01-01T00-00-0{number}" for number, name in enumerate("ABCDE")}
_MAKERS = {timestamp: name for name, timestamp in _TIMESTAMPS.items()}
_LATESTS: dict[str | None, Latest | None] = {None: None}


def _error(code: str, status: int) -> ClientError:
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")  # type: ignore[arg-type]


def _body(content: dict[str, Any] | None, etag: str = "") -> dict[str, Any]:
    if content is None:
        raise _error("NoSuchKey", 404)
    text = json.dumps(content).encode()
    return {"Body": SimpleNamespace(read=lambda: text), "ETag": etag}


def _latest_json(latest: Latest) -> dict[str, Any]:
    _LATESTS[repr(latest)] = latest
    return {
        "latest_row_id": latest.row_id,
        "timestamp": _TIMESTAMPS[latest.maker],
        "rows_ingested": latest.rows,
    }


def _format(key: Key) -> str:
    return keys.format_data_key(TABLE, key.row_id, _TIMESTAMPS[key.maker])


def _parse(key: str) -> Key:
    parsed = keys.parse_data_key(key)
    return Key(parsed.row_id, _MAKERS[parsed.timestamp])


def _batch(table: Table, rows: Sequence[int], *, more: bool = False) -> Batch:
    column = Column(table.id_column, "integer", "int4", "N", nullable=False)
    description = Description(table, (column,), (), None, has_long_rows=False)
    frame = pd.DataFrame({table.id_column: list(rows)}, dtype="int64")
    return Batch(description, frame, more=more)
