"""Compares the source with the bucket, table by table: what is missing, deleted or broken.

No row is reported missing that is not, whatever runs meanwhile. The watermark is read before the
source. All ids up to it were settled when they were claimed (see `services.ingestion.new_rows`): a
row that exists now existed then, and is in its object. The object exists, or the watermark would be
lower. So it does not matter when the objects are read, or what lands meanwhile: that is above the
watermark. So are rows that are held back, or claimed but not landed, and batches that a load has
landed behind those.

A row that is in none of the objects may be in the change stream, if it was inserted with an
explicit id below the watermark. The stream's mark is read first, and its objects are listed after
it, so they hold every version that is older than the mark. A row with a newer version is pending,
not missing. The watermark is read after them, so it is above every id that they hold. Rows are
looked up in the source a second time, so that a row that was deleted meanwhile is not reported
missing.

A row that landed and is not in the source was deleted: it was there when it landed. The change
stream says so from then on, see `services.reconciliation.corrections`. Rows are counted, not ids:
of rows that share an id, some may be missing.

Source and inventory are first compared by digests, part by part; ids are read where these differ.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from services.reconciliation.chain import Chain, Part, faults_of
from services.reconciliation.corrections import Corrections
from services.reconciliation.findings import Findings
from services.reconciliation.ids import NO_IDS, Ids, only_once, split, without
from services.reconciliation.inventory import Shard
from services.reconciliation.landed import Fault, drop_landed
from services.reconciliation.listing import UnlistedError
from services.reconciliation.said import read_changes
from services.reconciliation.source_ids import (
    count_without_id,
    read_digest,
    read_ids,
    read_still_there,
)
from services.reconciliation.store import Store
from services.reconciliation.streams import follow_streams, list_streams
from services.reconciliation.values import ValueProof
from shared.bucket.changes import get_change_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pg8000.native import Connection

    from services.reconciliation.landed import Link
    from shared.bucket.bucket import Bucket
    from shared.personal import PersonalData
    from shared.tables import Table

OTHERS_WROTE = "others wrote to the change stream or the inventory meanwhile"


class Comparison:
    """One comparison of a table.

    Attributes:
        findings: what it found.
        rows: how many rows have landed that are not known to be gone.
        gone: the ids that have landed, and of which the source has no row any more.
        corrections: what may be said in the change stream; None if the table has none.
    """

    def __init__(
        self,
        table: Table,
        bucket: Bucket,
        connection: Connection,
        *,
        with_changes: bool,
        with_listing: bool,
        today: int,
        personal: PersonalData,
    ) -> None:
        """Look at the bucket, in the order that the module explains.

        Raises:
            LandingError, LandingUnavailableError, StateError: see `find_position`.
            UnlistedError: see `follow_streams`.
        """
        self._table, self._bucket, self._connection = table, bucket, connection
        self._today, self._personal = today, personal
        self._started = time.monotonic()
        self._state = get_change_state(table, bucket) if with_changes else None
        self._store = Store(table, bucket)
        inventory = self._store.inventory
        self._streams = (
            list_streams(table, bucket)
            if with_listing
            else follow_streams(table, inventory, bucket)
        )
        self.findings = Findings(table.name, self._streams.watermark)
        self.corrections: Corrections | None = None
        self.rows = 0
        self.gone = NO_IDS
        self._missing, self._deleted, self._back, self._gone = ([NO_IDS] for _ in range(4))
        self._returned = NO_IDS
        self._faulty: list[Link] = []
        # Rows that have landed and share their id with one that has not.
        self._beside = [NO_IDS]

    def run(self, is_time_left: Callable[[], bool]) -> None:
        """Read what is new in the bucket, and compare.

        Raises:
            SourceError, SourceUnavailableError: see `read_ids`.
            LandingError, LandingUnavailableError: see `Bucket`.
            UnfinishedError: there was no time to read all that is new in the bucket.
            OvertakenError: another reconciliation has written to the inventory.
            UnlistedError: what was found can't be told without listing all.
        """
        findings, streams = self.findings, self._streams
        parts = self._read_parts(is_time_left)
        read_changes(parts, streams.changes, self._table, self._bucket, self._store, is_time_left)
        if self._state:
            # An object may be lost, but its number is taken.
            number = max(self._state.number, streams.changes.number)
            self.corrections = Corrections(
                self._state, number, self._bucket, self._connection, self._personal
            )
        for part in parts:
            findings.faults += faults_of(part)
            self._faulty += part.faulty
            self._compare(part)
        missing = np.concatenate(self._missing)
        if not streams.is_whole and (len(missing) or findings.faults):
            raise UnlistedError(self._table.name)
        findings.deleted = np.sort(np.concatenate(self._deleted))
        self.gone = np.unique(np.concatenate(self._gone))
        self._look_elsewhere(missing, [key for part in parts for key in part.unclaimed])
        back = np.concatenate(self._back)
        self._returned = self._undelivered(back, NO_IDS) if len(back) else NO_IDS
        findings.pending += len(back) - len(self._returned)
        findings.without_id = count_without_id(self._table, self._connection)
        findings.seconds = time.monotonic() - self._started

    def prove(self, days: int, is_time_left: Callable[[], bool]) -> None:
        """Compare values with what has landed, if it can be done and all was listed.

        Args:
            days: in how many days all values are to be proved.
            is_time_left: asked before each read.

        Raises:
            SourceError, SourceUnavailableError, LandingError, LandingUnavailableError: see
                `ValueProof`.
        """
        findings, mark = self.findings, self.corrections and self.corrections.done
        if not self._state:
            findings.unproved = "the table has no change stream"
        elif self.is_overtaken or self._store.is_overtaken:
            findings.unproved = OTHERS_WROTE
        elif not mark:
            findings.unproved = "no scan has ended since the table was declared as it is"
        if not mark or findings.unproved:
            return
        batches, bucket = self._streams.batches, self._bucket
        proof = ValueProof(
            self._table, mark, batches, self._store, bucket, self._connection, self._personal
        )
        done = proof.run(self._today, days, is_time_left)
        findings.proved, findings.days_behind = done.rows, done.days_behind
        findings.differing, findings.differing_columns = done.differing, done.columns

    @property
    def is_overtaken(self) -> bool:
        """Whether another run or reconciliation has put something into the change stream."""
        return self.corrections is not None and self.corrections.is_overtaken

    @property
    def unsaid(self) -> Ids:
        """The ids of rows that no scan will deliver, and that are not those of a fault."""
        ids = np.unique(np.concatenate([self._returned, self.findings.missing]))
        ids = ids[(ids > 0) & ~np.isin(ids, np.concatenate(self._beside))]
        for link in self._faulty:
            ids = ids[(ids <= link.above) | (ids > link.up_to)]
        return ids

    def _read_parts(self, is_time_left: Callable[[], bool]) -> list[Part]:
        """Return the parts of the chain; each is in the inventory before the next is read."""
        parts: list[Part] = []
        chain = Chain(self._table, self._streams, self._bucket, self._store, self._today)
        for part in chain.parts(is_time_left):
            parts.append(part)
            known = self._store.inventory
            behind = [each for each in known.shards if each.above >= part.summary.up_to]
            shards = (*(each.summary for each in parts), *behind)
            self._store.save(replace(known, shards=shards))
        return parts

    def _compare(self, part: Part) -> None:
        """Count the rows of both sides; look at ids only where the digests differ."""
        findings, summary = self.findings, part.summary
        source = read_digest(self._table, summary.lowest, summary.up_to, self._connection)
        if part.faulty or source != summary.landed.plus(summary.extras):
            self._compare_ids(part)
            return
        self.rows += source.rows
        findings.rows_in_source += source.rows
        findings.rows_landed += summary.landed.rows
        findings.elsewhere += summary.extras.rows

    def _compare_ids(self, part: Part) -> None:
        """Collect the ids of the rows that only one side has."""
        findings, summary = self.findings, part.summary
        shard = self._store.get_shard(summary) if summary.etag else Shard()
        ids, extras = part.rows(shard)
        self.rows += len(ids) + len(extras)
        bounds = summary.lowest, summary.up_to
        for last, in_source in read_ids(self._table, *bounds, self._connection):
            here, ids = split(ids, last)
            elsewhere, extras = split(extras, last)
            surplus = without(here, in_source)
            doubled = surplus[np.isin(surplus, only_once(in_source))]
            if len(doubled) and not self._streams.is_whole:
                raise UnlistedError(self._table.name)
            findings.faults += self._doubled(doubled)
            findings.rows_landed += len(here) - len(doubled)
            findings.rows_in_source += len(in_source)
            missing = without(in_source, here)
            nowhere = missing[~np.isin(missing, elsewhere)]
            findings.elsewhere += len(missing) - len(nowhere)
            came_back = np.isin(nowhere, shard.gone)
            self._back.append(nowhere[came_back])
            nowhere = nowhere[~came_back]
            if self._state:  # it may be the stream's, and share its id with one that has landed
                is_said = np.isin(nowhere, here) & np.isin(nowhere, shard.said.ids)
                findings.elsewhere += int(is_said.sum())
                nowhere = nowhere[~is_said]
            self._missing.append(nowhere)
            self._beside.append(here[np.isin(here, nowhere)])
            gone = surplus[~np.isin(surplus, doubled)], elsewhere[~np.isin(elsewhere, in_source)]
            self._deleted += gone
            self._gone += (each[~np.isin(each, in_source)] for each in gone)

    def _doubled(self, ids: Ids) -> Iterator[Fault]:
        """Yield a fault for each object with ids that it has twice, and the source once."""
        batches = self._streams.batches
        for place in np.unique(np.searchsorted(batches.numbers, ids)).tolist():
            what = "ids occur more often than in the source: it was altered, or rows of one id "
            yield Fault(batches.keys[place], what + "deleted")

    def _look_elsewhere(self, missing: Ids, unclaimed: Sequence[str]) -> None:
        """Keep as missing only rows that are in no object and the change stream won't deliver."""
        if not len(missing):
            return
        findings, beside = self.findings, np.concatenate(self._beside)
        # Of rows that share an id, an object that is not of the chain may hold any.
        is_beside = np.isin(missing, beside)
        nowhere = drop_landed(missing[~is_beside], unclaimed, self._table, self._bucket)
        rest = np.sort(np.concatenate((nowhere, missing[is_beside])))
        findings.elsewhere += len(missing) - len(rest)
        findings.missing = self._undelivered(rest, beside)
        findings.pending += len(rest) - len(findings.missing)

    def _undelivered(self, ids: Ids, beside: Ids) -> Ids:
        """Return the ids of rows that the source still has and the change stream won't deliver."""
        corrections = self.corrections
        if corrections and corrections.is_broken:  # every row goes into it
            return NO_IDS
        since = corrections.done if corrections else None
        # Of the rows that share an id, as many have landed as `beside` has.
        still = read_still_there(self._table, np.unique(ids), self._connection, since)
        there = without(still, beside)
        return without(ids, without(ids, there))
