"""What the reconciliation knows of a table from earlier nights, so that it reads only what is new.

An inventory says which batches were read and found as they landed, by the fingerprints of their
versions, and which ids they hold. That stays true whatever happens to the objects later, so an
inventory may be old, lost or overtaken by that of another call: what it does not cover is read.

It is in shards of about a million rows. `inventory/<table>/latest.json` has a summary of each,
which is enough for a night in which nothing in its range has changed; the ids are in objects beside
it. A shard also has the ids that only the change stream holds.
"""

from __future__ import annotations

import io
import zipfile
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from services.reconciliation.contents import LOWEST_ID, NO_IDS, Ids
from services.reconciliation.digests import NO_ROWS, Digest, digest
from shared.bucket import keys
from shared.bucket.pointer import Pointer, get_pointer, move_pointer
from shared.errors import StateError
from shared.telemetry import logger

if TYPE_CHECKING:
    from services.reconciliation.listing import Prints
    from shared.bucket.bucket import Bucket
    from shared.tables import Table

_NO_PRINTS: Prints = np.empty(0, np.uint64)


class Proved(NamedTuple):
    """Batches that were found as they landed: the ids they begin above and end at, ascending.

    Attributes:
        starts: the ids they begin above.
        ends: the ids they end at.
        claims: the fingerprints of their claims.
        objects: the fingerprints of their objects.
    """

    starts: Ids = NO_IDS
    ends: Ids = NO_IDS
    claims: Prints = _NO_PRINTS
    objects: Prints = _NO_PRINTS

    @property
    def total(self) -> int:
        """The sum of the fingerprints."""
        return int(np.concatenate((self.claims, self.objects)).sum(dtype=np.uint64))

    def chosen(self, which: Any) -> Proved:
        """Return some of them: an array that numpy takes as an index says which."""
        return Proved(self.starts[which], self.ends[which], self.claims[which], self.objects[which])

    def joined(self, other: Proved) -> Proved:
        """Return both, ascending."""
        together = Proved(
            np.concatenate((self.starts, other.starts)),
            np.concatenate((self.ends, other.ends)),
            np.concatenate((self.claims, other.claims)),
            np.concatenate((self.objects, other.objects)),
        )
        return together.chosen(np.argsort(together.starts))


NONE_PROVED = Proved()


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of an inventory.

    Attributes:
        proved: the batches that were found as they landed.
        ids: the ids in these batches, ascending; an id occurs as often as there are rows of it.
        extras: other ids in the range, which only the change stream holds, ascending.
    """

    proved: Proved = NONE_PROVED
    ids: Ids = field(default_factory=lambda: NO_IDS)
    extras: Ids = field(default_factory=lambda: NO_IDS)

    def pack(self) -> bytes:
        """Return it as it is stored: ids as differences, which compress well."""
        packed = io.BytesIO()
        np.savez_compressed(
            packed,
            **self.proved._asdict(),
            ids=np.diff(self.ids, prepend=0),
            extras=np.diff(self.extras, prepend=0),
        )
        return packed.getvalue()


def unpack(body: bytes) -> Shard:
    """Return a shard that was packed.

    Raises:
        ValueError, KeyError, OSError, zipfile.BadZipFile: it is no such thing.
    """
    with np.load(io.BytesIO(body)) as stored:
        proved = Proved(*(stored[name] for name in Proved._fields))
        return Shard(proved, np.cumsum(stored["ids"]), np.cumsum(stored["extras"]))


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of a shard without reading it.

    Attributes:
        above: the id that its range begins above.
        up_to: the id that its range ends at.
        etag: the version of the shard's object.
        batches: how many batches it has.
        prints: the sum of the fingerprints of its batches and claims.
        landed: the digest of its ids.
        extras: the digest of its extras.
        number: up to which object of the change stream its extras are complete.
    """

    above: int
    up_to: int
    etag: str = ""
    batches: int = 0
    prints: int = 0
    landed: Digest = NO_ROWS
    extras: Digest = NO_ROWS
    number: int = 0

    @property
    def lowest(self) -> int:
        """The id that its rows are above: there may be rows below those of the first batch."""
        return self.above or LOWEST_ID

    @property
    def first_end(self) -> int:
        """The lowest id that an object in its range may end at: no claim begins below 0."""
        return self.above + 1 if self.above else 0


@dataclass(frozen=True, slots=True)
class Inventory:
    """The content of an inventory's latest.json.

    Attributes:
        shards: the summaries, in the order of the ids, without a gap.
        changes: the sum of the fingerprints of the change objects up to `number`.
        number: the number of the last change object that was read.
    """

    shards: tuple[Summary, ...] = ()
    changes: int = 0
    number: int = 0

    def content(self) -> dict[str, Any]:
        """Return what the file holds."""
        return asdict(self)


def _parse(content: Any) -> Inventory:
    shards = tuple(
        Summary(**each | {"landed": Digest(*each["landed"]), "extras": Digest(*each["extras"])})
        for each in content["shards"]
    )
    return Inventory(shards, int(content["changes"]), int(content["number"]))


class OvertakenError(Exception):
    """Another reconciliation has written a shard since it was listed: begin again."""


class Store:
    """A table's inventory in the bucket.

    Attributes:
        inventory: as it was read, or written last.
    """

    def __init__(self, table: Table, bucket: Bucket) -> None:
        """Read the inventory; there is none if it was lost or can't be read.

        Raises:
            LandingError, LandingUnavailableError: see `Bucket`.
        """
        self._table, self._bucket = table, bucket
        self._pointer = _get(table, bucket)
        self.inventory = self._pointer.value or Inventory()
        listed = bucket.list(keys.inventory_folder(table))
        self._etags = {each.key: each.etag for each in listed}
        self._is_overtaken = False
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
        written = replace(
            summary,
            etag=etag,
            batches=len(shard.proved.starts),
            prints=shard.proved.total,
            landed=digest(shard.ids),
            extras=digest(shard.extras),
        )
        self._held = (written, shard)
        return written

    def save(self, inventory: Inventory) -> None:
        """Write the inventory, unless another call has written one since it was read.

        Raises:
            LandingError, LandingUnavailableError: see `Bucket`.
        """
        self.inventory = inventory
        if self._is_overtaken or inventory == self._pointer.value:
            return
        moved = move_pointer(self._pointer, inventory, self._bucket)
        if moved:
            self._pointer = moved
        else:
            self._is_overtaken = True
            self._warn("Another reconciliation runs; its inventory is kept", self._pointer.key)

    def _warn(self, what: str, key: str) -> None:
        logger().warning(what, extra={"table": self._table.name, "key": key})


def _get(table: Table, bucket: Bucket) -> Pointer[Inventory]:
    key = keys.format_inventory_key(table)
    try:
        return get_pointer(key, _parse, bucket)
    except StateError:
        logger().warning(
            "The inventory can't be read; everything is read again",
            extra={"table": table.name, "key": key},
        )
        found = bucket.get(key)
        return Pointer(key, None, found.etag if found else None)
