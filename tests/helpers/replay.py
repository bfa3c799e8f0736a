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

from services.ingestion import get_latest_id, keys, reading, write_table_data
from services.ingestion import ingest as ingest_module
from services.ingestion.ingest import Limits, ingest
from services.ingestion.survey import Survey
from tests.helpers.interleavings import Key, Latest, Request
from tests.helpers.steps import Immediately

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import pytest

TABLE = "thing"


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
        if key.startswith(f"claims/{TABLE}/"):
            above = int(key.rpartition("/")[2].removesuffix(".json"))
            return bool(self._ask("create claim", above, _parse(json.loads(body)["key"])))
        rows = tuple(json.loads(line)[f"{TABLE}_id"] for line in body.splitlines())
        assert metadata == {"rows": str(len(rows))}
        return bool(self._ask("create object", _parse(key), rows))

    def survey(self, _tables: Sequence[str], _connection: Any, *, with_ids: bool) -> Survey:
        assert with_ids
        self._latest_was_read.wait()  # which the run asks for meanwhile
        if not self._answers:
            raise Unanswered
        at = self._answers[0].row_id if self._answers[0] else 0
        return Survey({TABLE: at + int(self._ask("look for news", at))})

    def get_table_data(
        self,
        table: str,
        row_id: int,
        _connection: Any,
        limit: int | None = None,
        *,
        wait_seconds: float = 0,
    ) -> pd.DataFrame:
        rows = self._ask("read rows", row_id, limit)
        frame = _frame(table, rows)
        frame.attrs |= {"held_back_rows": 0, "waited_seconds": 0.0, "more": len(rows) == limit}
        return frame

    def get_settled_rows(self, table: str, above: int, to: int, _connection: Any) -> pd.DataFrame:
        return _frame(table, self._ask("read settled rows", above, to))


def requests_of_ingest(
    name: str, batch_rows: int, answers: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> list[Request]:
    """Return the requests a run makes that gets these answers: one more, unless it ends."""
    replay = Replay(answers)
    monkeypatch.setattr(ingest_module, "source", replay)
    monkeypatch.setattr(reading, "source", replay)
    monkeypatch.setattr(reading, "ThreadPoolExecutor", Immediately)
    monkeypatch.setattr(ingest_module, "survey", replay.survey)
    monkeypatch.setattr(keys, "timestamp_now", lambda: _TIMESTAMPS[name])
    limits = Limits(batch_rows, without_changes=(TABLE,))
    with suppress(Unanswered):
        ingest((TABLE,), replay, None, "bucket", limits)  # type: ignore[arg-type]
    return replay.requests


def requests_of_functions(
    name: str, batch_rows: int, answers: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> list[Request]:
    """Return the requests of the three functions, called one after the other, as above."""
    replay = Replay(answers)
    monkeypatch.setattr(keys, "timestamp_now", lambda: _TIMESTAMPS[name])
    with suppress(Unanswered):
        row_id = get_latest_id(TABLE, replay, "bucket")  # type: ignore[arg-type]
        rows = replay.get_table_data(TABLE, row_id, None, batch_rows)
        write_table_data(TABLE, rows, replay, "bucket")  # type: ignore[arg-type]
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


def _frame(table: str, rows: Sequence[int]) -> pd.DataFrame:
    return pd.DataFrame({f"{table}_id": list(rows)}, dtype="int64")
