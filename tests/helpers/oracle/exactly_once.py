"""The promise, checked against everything that lies in a bucket."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from moto.core.models import DEFAULT_ACCOUNT_ID
from moto.s3.models import s3_backends

from shared.bucket import keys
from shared.jsonlines import to_json_lines
from shared.postgres.reader import read_settled_rows
from shared.tables import Table

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from pg8000.native import Connection

    from shared.bucket.bucket import Bucket

TOMBSTONE = b'"_deleted":true'
OF_THE_RECONCILIATION = ("inventory/", "reconcile/")
_USER = "x-amz-meta-"

Content = dict[str, tuple[bytes, dict[str, str]]]


def content(bucket: Bucket) -> Content:
    """Return every object's body and metadata by key.

    From the memory of the stand-in, which takes no requests: it is asked hundreds of times.
    """
    stored = s3_backends[DEFAULT_ACCOUNT_ID]["aws"].buckets[bucket.name].keys
    return {key: (found.value, _user_metadata(found.metadata)) for key, found in stored.items()}


def _user_metadata(headers: Mapping[str, str]) -> dict[str, str]:
    return {
        name.removeprefix(_USER): value for name, value in headers.items() if name.startswith(_USER)
    }


def restore(bucket: Bucket, objects: Content) -> None:
    """Put objects into a bucket, as `content` returned them."""
    for key, (body, metadata) in objects.items():
        bucket.client.put_object(Bucket=bucket.name, Key=key, Body=body, Metadata=metadata)


def check(
    bucket: Bucket,
    connection: Connection,
    tables: Sequence[str],
    before: Mapping[str, object],
    foreign: Collection[str] = (),
) -> None:
    """Assert what must hold after a normal run, whatever happened before it.

    Every row of the tables lies in the bucket once, in order; latest.json names the last object;
    the claims are a chain that accounts for every object; nothing of what was there `before` is
    gone or changed, and nothing else is there but for `foreign` keys.
    """
    objects = content(bucket)
    expected: set[str] = set()
    for table in tables:
        expected |= _check_table(table, objects, connection)
        expected |= check_changes(table, objects, connection)
    landed = {key for key in objects if not key.startswith(OF_THE_RECONCILIATION)}
    assert landed == expected | set(foreign)
    for key, found in before.items():
        assert objects[key] == found or key.endswith("/latest.json"), key


def check_equal(table: str, objects: Content, connection: Connection) -> None:
    """Check that both streams of a table are the table, and that what is gone is gone."""
    check_changes(table, objects, connection)
    rows = [row_id for row_id, line in _said(table, objects).items() if TOMBSTONE not in line]
    stored = connection.run(f'SELECT {table}_id FROM "{table}" ORDER BY 1')
    assert sorted(rows) == [row_id for [row_id] in stored], table


def check_changes(table: str, objects: Content, connection: Connection) -> set[str]:
    """Check that all rows of a table are in its streams; return the keys of the changes."""
    stream = sorted(key for key in objects if key.startswith(keys.change_folder(Table(table))))
    state = keys.format_change_latest_key(Table(table))
    numbered = [key for key in stream if key != state]
    assert numbered == [keys.format_change_key(Table(table), n + 1) for n in range(len(numbered))]
    both = _said(table, objects)
    rows = read_settled_rows(Table(table), 0, max(both, default=0), connection).rows
    current = to_json_lines(rows).splitlines()
    assert [both[row_id] for row_id in rows[f"{table}_id"]] == current, table
    return set(stream)


def _said(table: str, objects: Content) -> dict[int, bytes]:
    """Return the last line on each id in both streams of a table."""
    folder = keys.change_folder(Table(table))
    changes = sorted(key for key in objects if keys.is_change_key(key) and key.startswith(folder))
    landed = [key for key in objects if keys.is_data_key(key) and key.startswith(f"{table}/")]
    both = dict[int, bytes]()
    for key in [*sorted(landed, key=lambda key: keys.parse_data_key(key).row_id), *changes]:
        for line in objects[key][0].splitlines():
            both[json.loads(line)[f"{table}_id"]] = line
    return both


def _check_table(table: str, objects: Content, connection: Connection) -> set[str]:
    """Check one table; return its keys."""
    claims, chain, above = [], [], 0
    while (claim := keys.format_claim_key(Table(table), above)) in objects:
        claims.append(claim)
        chain.append(json.loads(objects[claim][0])["key"])
        above = keys.parse_data_key(chain[-1]).row_id
    landed = [json.loads(line) for key in chain for line in objects[key][0].splitlines()]
    ids = [row[f"{table}_id"] for row in landed]
    stored = connection.run(f'SELECT {table}_id FROM "{table}" ORDER BY 1')
    assert ids == [row_id for [row_id] in stored], table
    if not chain:
        return set()
    last = keys.parse_data_key(chain[-1])
    assert json.loads(objects[keys.format_latest_key(Table(table))][0]) == {
        "latest_row_id": ids[-1],
        "timestamp": last.timestamp,
        "rows_ingested": len(objects[chain[-1]][0].splitlines()),
    }, table
    return {*claims, *chain, keys.format_latest_key(Table(table))}
