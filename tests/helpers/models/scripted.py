"""The real code, answered from a script: which request it makes next, given the answers so far.

Stands between the code and both boto3 and the database, and speaks the language of
`tests.helpers.models.interleavings`, so that the models can be held against the code: `ingest`, the
three functions, and `plan_load`.
"""

from __future__ import annotations

import json
import threading
from contextlib import suppress
from types import SimpleNamespace
from typing import IO, TYPE_CHECKING, Any

import pandas as pd
from botocore.exceptions import ClientError

from services.ingestion import (
    Limits,
    claimed,
    get_latest_id,
    ingest,
    plan,
    read_ahead,
    standing,
    write_table_data,
)
from services.ingestion.loads import Load
from shared.bucket import keys
from shared.bucket.claims import etag_of_claim
from shared.errors import IngestionError, StateError
from shared.personal import NONE
from shared.postgres.catalogue import Column, Description
from shared.postgres.reader import Batch
from shared.postgres.survey import Survey
from shared.tables import Table
from tests.helpers.faults.steps import Immediately
from tests.helpers.models.interleavings import Damaged, Key, Latest, Program, Request

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    import pytest

    from shared.personal import PersonalData

    type History = tuple[str, tuple[Any, ...]]

TABLE = Table("thing")


class Unanswered(BaseException):
    """The script has ended; a BaseException, because the code under test catches all others."""


class Script:
    """Answers to the requests of a run, in their order.

    Attributes:
        requests: those made so far.
    """

    def __init__(self, answers: Sequence[Any]) -> None:
        self.requests: list[Request] = []
        self._answers = answers

    def ask(self, *request: Any) -> Any:
        """Return the answer to the next request; end the run where there is none."""
        if len(self.requests) <= len(self._answers):
            self.requests.append(request)
        if len(self.requests) > len(self._answers):
            raise Unanswered
        return self._answers[len(self.requests) - 1]


class Double(Script):
    """A client of S3 and a source that answer from a script and keep the requests."""

    def __init__(self, answers: Sequence[Any]) -> None:
        super().__init__(answers)
        self._latest_was_read = threading.Event()

    def get_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        name = Key.rpartition("/")[2]
        if name == "latest.json":
            try:
                latest = self.ask("read latest")
            finally:
                self._latest_was_read.set()
            return body_of(latest and _latest_json(latest), repr(latest))
        claimed = self.ask("read claim", int(name.removesuffix(".json")))
        return body_of(claimed and {"key": format_key(claimed)})

    def head_object(self, Bucket: str, Key: str) -> dict[str, Any]:
        rows = self.ask("head", parse_key(Key))
        if rows is None:
            raise s3_error("404", 404)
        return {"Metadata": {"rows": str(rows)}}

    def get_paginator(self, operation: str) -> SimpleNamespace:
        assert operation == "list_objects_v2"
        return SimpleNamespace(paginate=self._paginate)

    def _paginate(
        self, Bucket: str, Prefix: str, Delimiter: str, StartAfter: str
    ) -> Iterator[dict[str, Any]]:
        kind = "claims" if Prefix.startswith("claims/") else "objects"
        if StartAfter:
            first = int(StartAfter.removeprefix(Prefix))
            found = self.ask(f"look for {kind}", first)
            claims = [(above, None) for above in found] if kind == "claims" else []
        else:
            found = claims = self.ask(f"list {kind}")
        listed = (
            [_listed(keys.format_claim_key(TABLE, above), key) for above, key in claims]
            if kind == "claims"
            else [_listed(format_key(key)) for key in found]
        )
        yield {"Contents": sorted(listed, key=lambda each: each["Key"])}

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
        body = whole(Body)
        if Key.endswith("/latest.json"):
            said = json.loads(body)
            maker = _MAKERS[said["timestamp"]]
            latest = Latest(said["latest_row_id"], maker, said["rows_ingested"])
            assert IfMatch or IfNoneMatch == "*"
            etag = repr(latest)
            taken = self.ask("write latest", _LATESTS.get(IfMatch), latest)
            _LATESTS[etag] = latest
        else:
            assert IfNoneMatch == "*"
            taken, etag = self._create(Key, body, Metadata), ""
        if not taken:
            raise s3_error("PreconditionFailed", 412)
        return {"ETag": etag}

    def _create(self, key: str, body: bytes, metadata: dict[str, str] | None) -> bool:
        if keys.is_claim_key(key):
            above = int(key.rpartition("/")[2].removesuffix(".json"))
            return bool(self.ask("create claim", above, parse_key(json.loads(body)["key"])))
        rows = tuple(json.loads(line)[TABLE.id_column] for line in body.splitlines())
        assert metadata == {"rows": str(len(rows))}
        return bool(self.ask("create object", parse_key(key), rows))

    def read_survey(self, _tables: Sequence[Table], _connection: Any, *, with_ids: bool) -> Survey:
        assert with_ids
        self._latest_was_read.wait()  # which the run asks for meanwhile
        if not self._answers:
            raise Unanswered
        return Survey({TABLE.name: self.ask("look for news")})

    def read_new_rows(
        self,
        table: Table,
        row_id: int,
        _connection: Any,
        limit: int | None = None,
        *,
        wait_seconds: float = 0,
        personal: PersonalData = NONE,
        after: Batch | None = None,
    ) -> Batch:
        rows = self.ask("read rows", row_id, limit)
        frame = pd.DataFrame({table.id_column: list(rows)}, dtype="int64")
        return batch_of(frame, more=len(rows) == limit)

    def read_settled_parts(
        self, table: Table, above: int, to: int, _connection: Any, *, personal: PersonalData
    ) -> Iterator[Batch]:
        rows = self.ask("read settled rows", above, to)
        for part in ([], [*rows]):
            yield batch_of(pd.DataFrame({table.id_column: part}, dtype="int64"))

    def read_cut(
        self, _description: Description, _connection: Any, above: int, up_to: int, rows: int, _: int
    ) -> int:
        return int(self.ask("read cut", above, up_to, rows))


def maximal(histories: Iterable[History]) -> Iterator[History]:
    """Yield the histories that are not the beginning of another one."""
    ordered = sorted(histories, key=repr)
    beginnings = {(name, history[:-1]) for name, history in ordered}
    return (one for one in ordered if one not in beginnings)


def requests_of_model(program: Program, name: str, history: Sequence[Any]) -> list[Request]:
    """Return the requests a model's run makes that gets these answers, as the code's below."""
    model, requests, answer = program(name), [], None
    for following in (*history, None):
        try:
            requests.append(model.send(answer))
        except (StopIteration, Damaged):
            break
        answer = following
    return requests


def requests_of_ingest(
    name: str, batch_rows: int, answers: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> list[Request]:
    """Return the requests a run makes that gets these answers: one more, unless it ends."""
    double = Double(answers)
    monkeypatch.setattr(claimed, "read_settled_parts", double.read_settled_parts)
    monkeypatch.setattr(read_ahead, "new_rows", double)
    monkeypatch.setattr(read_ahead, "ThreadPoolExecutor", Immediately)
    _answer_where_it_stands(double, monkeypatch)
    monkeypatch.setattr(keys, "timestamp_now", lambda: TIMESTAMPS[name])
    limits = Limits(batch_rows, without_changes=(TABLE.name,))
    with suppress(Unanswered, IngestionError):
        ingest((TABLE.name,), double, None, "bucket", limits)  # type: ignore[arg-type]
    return double.requests


def requests_of_functions(
    name: str, batch_rows: int, answers: Sequence[Any], monkeypatch: pytest.MonkeyPatch
) -> list[Request]:
    """Return the requests of the three functions, called one after the other, as above."""
    double = Double(answers)
    monkeypatch.setattr(keys, "timestamp_now", lambda: TIMESTAMPS[name])
    with suppress(Unanswered, StateError):
        row_id = get_latest_id(TABLE.name, double, "bucket")  # type: ignore[arg-type]
        rows = double.read_new_rows(TABLE, row_id, None, batch_rows).rows
        write_table_data(TABLE.name, rows, double, "bucket")  # type: ignore[arg-type]
    return double.requests


def requests_of_plan(
    name: str,
    batch_rows: int,
    answers: Sequence[Any],
    monkeypatch: pytest.MonkeyPatch,
    *,
    one_batch_a_call: bool,
) -> list[Request]:
    """Return the requests of the calls that plan a load, as above."""
    double, made_before = Double(answers), 0
    nothing = batch_of(pd.DataFrame({TABLE.id_column: []}, dtype="int64"))
    for function, answer in (
        ("read_description", nothing.description),
        ("read_capacities", ()),
        ("read_settled_rows", nothing),
        ("wait_for_writers", (set(), 0.0)),
    ):
        monkeypatch.setattr(plan, function, lambda *_, answer=answer, **__: answer)
    monkeypatch.setattr(plan, "read_cut", double.read_cut)
    _answer_where_it_stands(double, monkeypatch)
    monkeypatch.setattr(keys, "timestamp_now", lambda: TIMESTAMPS[name])

    def seconds_left() -> float:
        made = (request[0] for request in double.requests[made_before:])
        return 0.0 if one_batch_a_call and "create claim" in made else 1.0

    limits = Limits(batch_rows, without_changes=(TABLE.name,), seconds_left=seconds_left)
    load = Load(TABLE.name, workers=1)
    with suppress(Unanswered, StateError):
        while True:
            said = plan.plan_load(load, double, None, "bucket", limits)  # type: ignore[arg-type]
            if not said["more"]:
                break
            double.ask("call again")
            made_before = len(double.requests)
            load = Load(TABLE.name, 1, said["up_to"], said["above"])
    return double.requests


def _answer_where_it_stands(double: Double, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(standing, "read_survey", double.read_survey)
    # Where rows were deleted, the highest id is read again, for a warning.
    monkeypatch.setattr(standing, "read_highest_ids_or_none", lambda *_: {})


TIMESTAMPS = {name: f"2024-01-01T00-00-0{number}" for number, name in enumerate("ABCDEPQ")}
_MAKERS = {timestamp: name for name, timestamp in TIMESTAMPS.items()}
_LATESTS: dict[str | None, Latest | None] = {None: None}


def s3_error(code: str, status: int) -> ClientError:
    """Return an error of S3's, as boto3 raises it."""
    answer = {"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "PutObject")  # type: ignore[arg-type]


def _listed(key: str, claimed: Key | None = None) -> dict[str, Any]:
    etag = etag_of_claim(format_key(claimed)) if claimed else ""
    return {"Key": key, "ETag": etag, "LastModified": None, "Size": 0}


def body_of(content: dict[str, Any] | None, etag: str = "") -> dict[str, Any]:
    """Return S3's answer to a GET of an object with this content; an error if there is none."""
    if content is None:
        raise s3_error("NoSuchKey", 404)
    text = json.dumps(content).encode()
    return {"Body": SimpleNamespace(read=lambda: text), "ETag": etag, "Metadata": {}}


def whole(body: bytes | IO[bytes]) -> bytes:
    """Return the body of a PUT, which may be a file."""
    return body if isinstance(body, bytes) else body.read()


def _latest_json(latest: Latest) -> dict[str, Any]:
    _LATESTS[repr(latest)] = latest
    return {
        "latest_row_id": latest.row_id,
        "timestamp": TIMESTAMPS[latest.maker],
        "rows_ingested": latest.rows,
    }


def format_key(key: Key) -> str:
    """Return a model's key as it is in a bucket."""
    return keys.format_data_key(TABLE, key.row_id, TIMESTAMPS[key.maker])


def parse_key(key: str) -> Key:
    """Return a key of a bucket as the models have it."""
    parsed = keys.parse_data_key(key)
    return Key(parsed.row_id, _MAKERS[parsed.timestamp])


def batch_of(frame: pd.DataFrame, *, more: bool = False) -> Batch:
    """Return rows of the table as a read returns them."""
    columns = tuple(Column(str(name), "integer", "int4", "N", nullable=False) for name in frame)
    description = Description(TABLE, columns)
    return Batch(description, frame, more=more)
