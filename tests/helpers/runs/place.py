"""Runs of the real code against a database and a bucket, to be disturbed at any of their steps."""

from __future__ import annotations

import uuid
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import boto3
from botocore.config import Config

from services.ingestion import Limits, ingest
from shared.bucket.bucket import Bucket
from shared.postgres.credentials import Credentials
from shared.postgres.session import connect, disconnect
from tests.helpers.faults.steps import on_every_step
from tests.helpers.oracle.exactly_once import Content, check, content, restore

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from pg8000.native import Connection

    from tests.conftest import Database
    from tests.helpers.faults.steps import Step


class Died(BaseException):
    """A run ends here and now: not an Exception, which a run would keep for its end."""


def die_before_the_object(step: str) -> None:
    """End a run that has claimed a batch, as a step of it."""
    if step.startswith("before PutObject") and ".jsonl" in step:
        raise Died


@dataclass(frozen=True)
class Place:
    """Where runs take place: a database, a bucket, tables, and what was in the bucket before.

    Runs keep the tables' streams of changes only if `with_changes` is set.
    """

    database: Database
    bucket: Bucket
    tables: Sequence[str]
    before: Content
    batch_rows: int = 50_000
    statement_timeout_seconds: int = 10
    with_changes: bool = False

    def again(self) -> Place:
        """Return the same place with a bucket of its own, holding what was there before."""
        client = self.bucket.client
        name = f"test-{uuid.uuid4()}"
        client.create_bucket(
            Bucket=name,
            CreateBucketConfiguration={"LocationConstraint": "eu-west-2"},
        )
        restore(Bucket(client, name), self.before)
        return replace(self, bucket=Bucket(client, name))

    def now(self) -> Place:
        """Return the place with what is in the bucket now as what was there before."""
        return replace(self, before=content(self.bucket))

    def run(self, step: Step | None = None, **client_options: Any) -> dict[str, Any]:
        """Run once, with a client and a session of its own; `step` is called at every step."""
        client = boto3.client("s3", **client_options)
        connection = self.session()
        try:
            if step:
                on_every_step(client, connection, step)
            left_out = () if self.with_changes else self.tables
            limits = Limits(self.batch_rows, without_changes=left_out)
            key = str(self.database.secret["hash_key"])
            return ingest(self.tables, client, connection, self.bucket.name, limits, hash_key=key)
        finally:
            disconnect(connection)

    def die_after_claiming(self) -> None:
        """Run, and die between a claim and its object."""
        try:
            self.run(die_before_the_object)
        except Died:
            return
        raise AssertionError("There was nothing to land.")

    def execute(self, *statements: str) -> None:
        """Change the database, as its owner."""
        with closing(self.database.connect()) as connection:
            for statement in statements:
                connection.run(statement)

    def session(self) -> Connection:
        """Open a session as the function does."""
        credentials = Credentials(**self.database.secret)  # type: ignore[arg-type]
        return connect(credentials, Path(), self.statement_timeout_seconds)

    def check(self, foreign: Collection[str] = ()) -> None:
        """Assert the promise, see `exactly_once`."""
        with closing(self.database.connect()) as connection:
            check(self.bucket, connection, self.tables, self.before, foreign)


def without_retries(**options: Any) -> Config:
    """Return a client's configuration that makes every fault count."""
    return Config(retries={"mode": "standard", "total_max_attempts": 1}, **options)
