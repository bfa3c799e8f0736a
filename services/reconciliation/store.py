"""Keeps a table's inventory in the bucket; see `services.reconciliation.inventory`."""

from __future__ import annotations

import zipfile
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from services.reconciliation.digests import digest
from services.reconciliation.inventory import NEVER, Inventory, Shard, Summary, parse, unpack
from shared.bucket import keys
from shared.bucket.pointer import get_pointer_if_valid, move_pointer
from shared.errors import StateError
from shared.telemetry import logger

if TYPE_CHECKING:
    from shared.bucket.bucket import Bucket
    from shared.tables import Table


class OvertakenError(Exception):
    """Another reconciliation has written a shard since it was listed: begin again."""


class Store:
    """A table's inventory in the bucket.

    Attributes:
        inventory: as it was read, or written last.
        is_overtaken: whether another call has written it meanwhile; that one is kept.
    """

    def __init__(self, table: Table, bucket: Bucket) -> None:
        """Read the inventory; there is none if it was lost or can't be read.

        Raises:
            LandingError, LandingUnavailableError: see `Bucket`.
        """
        self._table, self._bucket = table, bucket
        self._pointer = get_pointer_if_valid(keys.format_inventory_key(table), parse, bucket)
        self.inventory = self._pointer.value or Inventory()
        listed = bucket.list(keys.inventory_folder(table))
        self._etags = {each.key: each.etag for each in listed}
        self.is_overtaken = False
        self._held: tuple[Summary, Shard] | None = None  # the last one, which is often asked again

    def has(self, summary: Summary) -> bool:
        """Tell whether the shard is the one that its summary tells of."""
        key = keys.format_shard_key(self._table, summary.above)
        is_there = self._etags.get(key) == summary.etag
        if not is_there:
            self._warn("A part of the inventory is lost; its batches are read again", key)
        return is_there

    def get_shard(self, summary: Summary) -> Shard:
        """Return a shard.

        Raises:
            OvertakenError: it was written anew since it was listed.
            StateError: it is not what we write.
            LandingError, LandingUnavailableError: see `Bucket`.
        """
        if self._held and self._held[0].etag == summary.etag:
            return self._held[1]
        key = keys.format_shard_key(self._table, summary.above)
        found = self._bucket.get(key)
        if found is None or found.etag != summary.etag:
            raise OvertakenError(key)
        try:
            shard = unpack(found.body)
        except (ValueError, KeyError, OSError, zipfile.BadZipFile) as error:
            raise StateError(
                f"s3://{self._bucket.name}/{key} is not a valid part of an inventory. Delete it: "
                "it is rebuilt from the objects that have landed."
            ) from error
        self._held = (summary, shard)
        return shard

    def put_shard(self, summary: Summary, shard: Shard) -> Summary:
        """Write a shard; return its summary.

        Raises:
            LandingError, LandingUnavailableError: see `Bucket`.
        """
        key = keys.format_shard_key(self._table, summary.above)
        etag = self._bucket.overwrite(key, shard.pack())
        ids, extras = shard.rows
        held = len(shard.ids) + np.count_nonzero(~np.isin(shard.said.ids, shard.ids))
        written = replace(
            summary,
            etag=etag,
            batches=len(shard.proved.starts),
            prints=shard.proved.total,
            landed=digest(ids),
            extras=digest(extras),
            gone=int(held) - len(ids) - len(extras),
            due=int(shard.proved.due.min(initial=NEVER)),
        )
        self._held = (written, shard)
        return written

    def save(self, inventory: Inventory) -> None:
        """Write the inventory, unless another call has written one since it was read.

        Raises:
            LandingError, LandingUnavailableError: see `Bucket`.
        """
        self.inventory = inventory
        if self.is_overtaken or inventory == self._pointer.value:
            return
        moved = move_pointer(self._pointer, inventory, self._bucket)
        if moved:
            self._pointer = moved
        else:
            self.is_overtaken = True
            self._warn("Another reconciliation runs; its inventory is kept", self._pointer.key)

    def _warn(self, what: str, key: str) -> None:
        logger().warning(what, extra={"table": self._table.name, "key": key})
