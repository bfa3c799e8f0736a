"""A table `thing` in motion, and runs that keep both of its streams."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import boto3

from services.ingestion import Limits, ingest
from services.reconciliation import reconcile
from shared.bucket import keys
from shared.tables import Table
from tests.helpers.faults.steps import on_every_step
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import check_changes, content
from tests.helpers.runs.place import Place

if TYPE_CHECKING:
    from collections.abc import Callable

    from services.reconciliation.findings import Findings
    from shared.bucket.bucket import Bucket
    from tests.conftest import Database
    from tests.helpers.faults.steps import Step

TABLE = "thing"
SCHEMA = "CREATE TABLE thing (thing_id serial PRIMARY KEY, name text, paid boolean DEFAULT false)"
INSERT = "INSERT INTO thing (name) SELECT 'new' FROM generate_series(1, 3)"
# Sessions report what they wrote with a delay; this one does with its next statement. It is run
# twice for older servers, see `servers.SHIMS`.
REPORT = "SELECT pg_stat_force_next_flush()"


def changing(database: Database, bucket: Bucket, *schema: str, **options: Any) -> Place:
    """Return a place with the table, of which three rows have landed."""
    place = Place(database, bucket, [TABLE], {}, with_changes=True, **options)
    write(place, *(schema or (SCHEMA,)), INSERT)
    place.run()
    return place.now()


def write(place: Place, *statements: str) -> None:
    """Change the table, and let the server count it."""
    place.execute(*statements, REPORT, REPORT)


def update(row_id: int) -> str:
    """Return a statement that gives a row a new version."""
    return f"UPDATE thing SET name = name || '!' WHERE thing_id = {row_id}"


def compare(place: Place, table: str = TABLE, step: Step | None = None, **options: Any) -> Findings:
    """Reconcile a table; `step` is called on every step, see `reconcile` for the options."""
    client = boto3.client("s3")
    with closing(place.session()) as connection:
        if step:
            on_every_step(client, connection, step)
        return reconcile(table, client, connection, place.bucket.name, **options)


def bury(place: Place, table: str = TABLE, **options: Any) -> int:
    """Reconcile a table, however much of it is gone; return how many tombstones there are more."""
    return compare(place, table, accept_deletes=2**62, **options).buried


def run_for(place: Place, turns: int) -> dict[str, Any]:
    """Run until the time was looked at so often: once a stretch, a few times a batch."""
    left = [1.0] * turns
    limits = Limits(place.batch_rows, seconds_left=lambda: left.pop() if left else 0.0)
    return run_within(place, limits)


def run_within(place: Place, limits: Limits) -> dict[str, Any]:
    """Run within limits."""
    with closing(place.session()) as connection:
        return ingest(place.tables, place.bucket.client, connection, place.bucket.name, limits)


def run_with(place: Place, number: int, action: Callable[[], object]) -> int:
    """Run, and do something right before a step of the run; return how many steps there were."""
    steps = 0

    def step(name: str) -> None:
        nonlocal steps
        if name.startswith("before"):
            if steps == number:
                action()
            steps += 1

    place.run(step)
    return steps


def changed(place: Place) -> list[list[int]]:
    """Return the ids in each object of the change stream."""
    objects = content(place.bucket)
    stream = sorted(key for key in objects if keys.is_change_key(key))
    return [
        [json.loads(line)["thing_id"] for line in objects[key][0].splitlines()] for key in stream
    ]


def state(place: Place) -> dict[str, Any]:
    """Return what is known of the change stream."""
    said: dict[str, Any] = json.loads(
        landed.body(place.bucket, keys.format_change_latest_key(Table(TABLE)))
    )
    return said


def check_both(place: Place) -> None:
    """Assert that both streams together are the table, wherever its ids come from."""
    with closing(place.database.connect()) as connection:
        check_changes(TABLE, content(place.bucket), connection)


def in_batches_of(place: Place, rows: int) -> Place:
    """Return the place where runs take so many rows at a time."""
    return replace(place, batch_rows=rows)
