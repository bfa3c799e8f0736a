"""Plans a load: settles how far it goes, and claims the batches up to there.

A claim can't be taken back. So whatever would make all workers fail is looked for first: what the
table lacks, what the role may not read, connections that the server does not have.

The load goes up to the highest id M that is committed now. An id up to M that is missing belongs to
a transaction that is open now, or to nobody (see `new_rows`). So once the transactions that are
open now have ended, all ids up to M are settled, for ever.

Then one batch after the other is claimed, each from where the chain ends. Where another run or
another load has claimed the next one, the chain goes on from its end: the batches that were meant
to follow are measured again, or there were two chains.
"""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

from services.ingestion.change_scan import ChangeScan
from services.ingestion.loads import Item
from services.ingestion.standing import take_standings
from services.ingestion.writers import describe, wait_for_writers
from shared.bucket import keys
from shared.bucket.bucket import Bucket
from shared.bucket.chain import claim_batch
from shared.bucket.claims import get_claim
from shared.bucket.objects import damaged
from shared.bucket.planned import list_pending, list_planned
from shared.contracts.contract import personal_data
from shared.errors import SourceError, SourceUnavailableError
from shared.jsonlines import render
from shared.postgres.capacity import read_capacities
from shared.postgres.catalogue import read_description
from shared.postgres.cuts import read_cut
from shared.postgres.reader import BATCH_BYTES, read_settled_rows
from shared.postgres.refusals import database_errors
from shared.postgres.survey import read_highest_ids
from shared.tables import Table
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    from services.ingestion.loads import Load
    from services.ingestion.run import Limits
    from services.ingestion.standing import Standing
    from shared.bucket.planned import Planned
    from shared.personal import PersonalData
    from shared.postgres.catalogue import Description

# The items are in the state of the state machine, which may have 256 KB: these take 104 KB at most.
MOST_ITEMS = 1_000
# Seconds that a load waits for open transactions before it says so.
_SHORT_WAIT = 5.0
# Beside the workers: a run, and the reconciliation.
_OTHER_CONNECTIONS = 2


def plan_load(
    load: Load,
    client: S3Client,
    connection: Connection,
    bucket_name: str,
    limits: Limits,
    *,
    hash_key: str | None = None,
) -> dict[str, Any]:
    """Claim the batches of a load, until all are claimed or time is up.

    Args:
        load: as it was asked for, or as the last call returned it.
        client: boto3 client of S3.
        connection: a session of the database, in autocommit.
        bucket_name: the bucket to land in.
        limits: what a call may use.
        hash_key: the key of the hashes that land in place of personal data.

    Returns:
        `more` is whether batches are left to claim: then the rest is the load, for the next call.
        Else it has the `items` for the workers, 1,000 at most, and how many `batches` these are:
        all that are claimed and have not landed.

    Raises:
        ConfigError: the table's contract is not valid, or hashes a column and there is no key.
        SourceError: the table can't be read or its rows not be rendered, or there are too few
            connections for the workers.
        SourceUnavailableError: the database can't be reached, or a transaction that was open when
            the load began still is.
        LandingError, LandingUnavailableError, StateError: see `get_latest_id`.
    """
    bucket, table = Bucket(client, bucket_name), Table(load.table)
    personal = personal_data(table, hash_key)
    with database_errors(f"Reading {table.name!r}"):
        description = read_description(table, connection, personal)
    if load.up_to is None:
        load = _begin(load, description, bucket, connection, limits, hash_key)
    above, up_to, is_ours = load.above or 0, load.up_to or 0, False
    while above < up_to and limits.seconds_left() > 0:
        cut = read_cut(description, connection, above, up_to, limits.batch_rows, BATCH_BYTES)
        key, is_ours = claim_batch(table, above, cut, up_to, bucket, is_end=is_ours)
        above = keys.parse_data_key(key).row_id
    load = replace(load, above=above)
    logger().info("Batches of a load claimed", extra=asdict(load))
    if above < up_to:
        return {"more": True} | asdict(load)
    pending = list_pending(table, bucket)
    items = [asdict(each) for each in pack(load.table, pending)]
    return {"more": False, "batches": len(pending), "items": items} | asdict(load)


def pack(table: str, batches: Sequence[Planned], most: int = MOST_ITEMS) -> list[Item]:
    """Return items that cover all batches: each some that follow each other, as even as may be."""
    each = -(-len(batches) // most)
    chunks = [batches[begin : begin + each] for begin in range(0, len(batches), each or 1)]
    return [Item(table, chunk[0].above, chunk[-1].up_to) for chunk in chunks]


def _begin(
    load: Load,
    description: Description,
    bucket: Bucket,
    connection: Connection,
    limits: Limits,
    hash_key: str | None,
) -> Load:
    """Return the load with its bounds, once no row below them can come any more."""
    table = description.table
    _refuse_too_many(load.workers, connection)
    # The mark that it has is taken before a row is read.
    [standing] = take_standings(
        [table], limits.without_changes, bucket, connection, hash_key, lambda _: nullcontext()
    )
    up_to = standing.highest_id
    if up_to is None:  # a run does without; a load would have no mark, and all rows be changes
        read_highest_ids([table], connection)  # raises what is wrong, if it still is
        raise SourceUnavailableError(
            f"{table.name!r} could not be surveyed a moment ago. Nothing has been claimed."
        )
    planned = list_planned(table, bucket)
    above = planned[-1].up_to if planned else 0
    if above < standing.position.row_id:
        claim = keys.format_claim_key(table, above)
        raise damaged(claim, "is missing, and latest.json is behind it", bucket)
    if above < up_to:
        _refuse_unreadable(table, above, up_to, connection, description.personal)
        _remember_mark(standing, bucket)
        _settle(description, connection, limits)
    return replace(load, up_to=up_to, above=above)


def _refuse_too_many(workers: int, connection: Connection) -> None:
    needed = workers + _OTHER_CONNECTIONS
    for each in read_capacities(connection):
        if each.free < needed:
            possible = max(0, each.free - _OTHER_CONNECTIONS)
            raise SourceError(
                f"{workers} workers, a run and the reconciliation need {needed} connections. "
                f"{each.of} allows {each.limit}, of which {each.used} are in use. Take fewer "
                f"workers, {possible} at most, or raise the limit."
            )


def _refuse_unreadable(
    table: Table, above: int, up_to: int, connection: Connection, personal: PersonalData
) -> None:
    """Read a row, and render it: what fails here would fail after the claims were made."""
    render(read_settled_rows(table, above, up_to, connection, 1, personal=personal).rows)


def _remember_mark(standing: Standing, bucket: Bucket) -> None:
    """Save the mark of a table of which nothing has landed; see `ChangeScan.remember_mark`."""
    is_new = not standing.position.row_id and get_claim(standing.table, 0, bucket) is None
    if is_new and standing.changes and standing.mark:
        ChangeScan(standing.changes, standing.mark, bucket, standing.personal).remember_mark()


def _settle(description: Description, connection: Connection, limits: Limits) -> None:
    """Wait until the transactions that write to the table now have ended."""
    name = description.table.name
    with database_errors(f"Waiting for the writers of {name!r}"):
        writers, _ = wait_for_writers(description, connection, min(_SHORT_WAIT, _left(limits)))
        if writers:
            waits_for = {"table": name, "transactions": describe(writers, connection)}
            logger().warning("A load waits for transactions that are open", extra=waits_for)
            writers, _ = wait_for_writers(description, connection, _left(limits))
        if writers:
            said = json.dumps(describe(writers, connection))
            raise SourceUnavailableError(
                f"A load of {name!r} waits for transactions that are still open, because their "
                f"rows belong to its batches: {said}. Commit them, or end them with the statement "
                "in `end_with`."
            )


def _left(limits: Limits) -> float:
    return max(0.0, limits.seconds_left())
