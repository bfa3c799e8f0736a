"""Compares the source with the bucket, table by table: what is missing, deleted or broken.

No row is reported missing that is not, whatever runs meanwhile. The watermark is read first. All
ids up to it were settled when they were claimed (see `services.ingestion.new_rows`): a row that
exists now existed then, and is in its object. The object exists, or the watermark would be lower.
So it does not matter when the objects are read, or what lands meanwhile: that is above the
watermark. So are rows that are held back, or claimed but not landed.

A row that is in none of the objects may be in the change stream, if it was inserted with an
explicit id below the watermark. The stream's mark is read before the source, and its objects after
it, so they hold every version that is older than the mark. A row with a newer version is pending,
not missing. Rows are looked up in the source a second time, so that a row that was deleted
meanwhile is not reported missing.

A row that landed and is not in the source was deleted: it was there when it landed. Rows are
counted, not ids: of rows that share an id, some may be missing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from services.reconciliation.contents import NO_IDS, Ids
from services.reconciliation.landed import Chain, Fault, Link
from services.reconciliation.source_ids import (
    LOWEST_ID,
    count_without_id,
    read_ids,
    read_still_there,
)
from shared.bucket import keys
from shared.bucket.bucket import Bucket
from shared.bucket.changes import get_change_state
from shared.bucket.position import find_position
from shared.postgres.survey import read_survey
from shared.snapshot import break_between
from shared.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    from shared.bucket.changes import ChangeState

# Chain ids are compared with the source as soon as there are so many of them.
_STRETCH_IDS = 100_000


@dataclass(slots=True)
class Findings:
    """What the reconciliation found for one table.

    Attributes:
        table: its name.
        watermark: the highest id that was compared.
        rows_in_source: how many rows the source has up to the watermark.
        rows_landed: how many have landed up to the watermark, in objects that claims name.
        elsewhere: how many rows of the source are only in other objects: those of the change
            stream, of replays, or that no claim names.
        pending: how many are in no object, but not missing: the change stream has yet to scan them,
            or they were deleted meanwhile.
        missing: ids of rows that are in the source and have not landed.
        without_id: how many rows of the source have no id, and so can't land.
        deleted: ids of rows that have landed and were deleted from the source.
        faults: objects and claims that are not as they landed.
        seconds: how long the comparison took.
    """

    table: str
    watermark: int
    rows_in_source: int = 0
    rows_landed: int = 0
    elsewhere: int = 0
    pending: int = 0
    missing: Ids = field(default_factory=lambda: NO_IDS)
    deleted: Ids = field(default_factory=lambda: NO_IDS)
    without_id: int = 0
    faults: list[Fault] = field(default_factory=list)
    seconds: float = 0.0


def reconcile(
    table: str,
    client: S3Client,
    connection: Connection,
    bucket_name: str,
    *,
    with_changes: bool = True,
) -> Findings:
    """Compare a table with what has landed of it.

    Args:
        table: its name.
        client: boto3 client of S3.
        connection: a session of the database, in autocommit, on a primary.
        bucket_name: the bucket that it landed in.
        with_changes: whether the table has a change stream, which may yet deliver rows. If it
            should have one, and has none yet, rows that have not landed are `pending`.

    Raises:
        SourceError, SourceUnavailableError: see `read_ids`.
        LandingError, LandingUnavailableError, StateError: see `find_position`.
    """
    started = time.monotonic()
    bucket, known = Bucket(client, bucket_name), Table(table)
    findings = Findings(table, find_position(known, bucket).row_id)
    changes = get_change_state(known, bucket) if with_changes else None
    chain = Chain(known, findings.watermark, bucket)
    beside = _compare(chain, connection, findings)
    findings.faults += [Fault(key, "no claim names it") for key in sorted(chain.unclaimed)]
    _look_elsewhere(chain, changes, connection, findings, beside)
    findings.without_id = count_without_id(known, connection)
    findings.seconds = time.monotonic() - started
    return findings


def _compare(chain: Chain, connection: Connection, findings: Findings) -> Ids:
    """Count the rows of both sides, and collect the ids of those that only one side has.

    Returns:
        The ids of the rows that have landed and share their id with one that has not.
    """
    missing, deleted, beside = [NO_IDS], [NO_IDS], [NO_IDS]
    above = LOWEST_ID
    for links in _stretches(chain, findings):
        up_to = links[-1].up_to
        ids = np.concatenate([link.ids for link in links])
        for last, in_source in read_ids(chain.table, above, up_to, connection):
            until = np.searchsorted(ids, last, side="right")
            here, ids = ids[:until], ids[until:]
            surplus = _without(here, in_source)
            doubled = surplus[np.isin(surplus, _only_once(in_source))]
            findings.faults += _doubled(doubled, links)
            findings.rows_landed += len(here) - len(doubled)
            findings.rows_in_source += len(in_source)
            missing.append(_without(in_source, here))
            beside.append(here[np.isin(here, missing[-1])])
            deleted.append(surplus[~np.isin(surplus, doubled)])
        above = up_to
    findings.missing, findings.deleted = np.concatenate(missing), np.concatenate(deleted)
    return np.concatenate(beside)


def _stretches(chain: Chain, findings: Findings) -> Iterator[list[Link]]:
    """Yield the links in stretches that are long enough; the last one goes up to the watermark."""
    links, count = list[Link](), 0
    for link in chain.links():
        findings.faults += link.faults
        links.append(link)
        count += len(link.ids)
        if count >= _STRETCH_IDS:
            yield links
            links, count = [], 0
    yield [*links, Link(chain.watermark, None, NO_IDS, [])]


def _only_once(ids: Ids) -> Ids:
    """Return those ids that occur only once."""
    distinct, times = np.unique(ids, return_counts=True)
    once: Ids = distinct[times == 1]
    return once


def _doubled(ids: Ids, links: Sequence[Link]) -> Iterator[Fault]:
    """Yield a fault for each object with ids that it has twice, and the source once."""
    ends = [link.up_to for link in links]
    for number in np.unique(np.searchsorted(ends, ids)).tolist():
        what = "ids occur more often than in the source: it was altered, or rows of one id deleted"
        yield Fault(links[number].key or "", what)


def _without(rows: Ids, others: Ids) -> Ids:
    """Return the ids of the rows that have no counterpart among others, both ascending.

    >>> _without(np.array([1, 2, 2, 2, 3]), np.array([2, 3, 4]))
    array([1, 2, 2])
    """
    # The n-th row of an id has a counterpart if others have at least n rows of it.
    occurrence = np.arange(len(rows)) - np.searchsorted(rows, rows)
    counterpart = np.searchsorted(others, rows) + occurrence
    return rows[counterpart >= np.searchsorted(others, rows, side="right")]


def _look_elsewhere(
    chain: Chain,
    changes: ChangeState | None,
    connection: Connection,
    findings: Findings,
    beside: Ids,
) -> None:
    """Keep as missing only rows that are in no object and that the change stream won't deliver."""
    missing = findings.missing
    if not len(missing):
        return
    folder = keys.change_folder(chain.table)
    changed = filter(keys.is_change_key, chain.bucket.keys(folder))
    again = filter(keys.is_replay_key, chain.bucket.keys(keys.replay_folder(chain.table)))
    others = [*sorted(chain.unclaimed), *changed, *again]
    # Without a change stream, other objects may hold the row that shares the id.
    shared = np.isin(missing, beside) if changes is None else np.zeros(len(missing), bool)
    nowhere = np.concatenate((missing[shared], chain.drop_landed(missing[~shared], others)))
    nowhere.sort()
    findings.elsewhere = len(missing) - len(nowhere)
    findings.missing = _undelivered(chain.table, nowhere, beside, changes, connection)
    findings.pending = len(nowhere) - len(findings.missing)


def _undelivered(
    table: Table, ids: Ids, beside: Ids, changes: ChangeState | None, connection: Connection
) -> Ids:
    """Return the ids of the rows that the source still has and the change stream won't deliver."""
    seen = read_survey([table], connection, with_ids=False) if changes else None
    mark = seen.marks.get(table.name) if seen else None
    since = changes.done if changes and mark else None  # without either it has no change stream
    if changes and mark and break_between(since, mark):  # every row goes into it
        return NO_IDS
    # Of the rows that share an id, as many have landed as `beside` has.
    there = _without(read_still_there(table, np.unique(ids), connection, since), beside)
    return _without(ids, _without(ids, there))
