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
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from services.reconciliation.contents import LOWEST_ID, NO_IDS, Ids
from services.reconciliation.digests import NO_ROWS, Digest

if TYPE_CHECKING:
    from services.reconciliation.listing import Prints

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
        gone: the ids in the range whose last word in the change stream is a tombstone, ascending.
    """

    proved: Proved = NONE_PROVED
    ids: Ids = field(default_factory=lambda: NO_IDS)
    extras: Ids = field(default_factory=lambda: NO_IDS)
    gone: Ids = field(default_factory=lambda: NO_IDS)

    @property
    def rows(self) -> tuple[Ids, Ids]:
        """The ids of the rows that are not gone: of those that landed, and of the extras."""
        if not len(self.gone):
            return self.ids, self.extras
        return self.ids[~np.isin(self.ids, self.gone)], self.extras[
            ~np.isin(self.extras, self.gone)
        ]

    def pack(self) -> bytes:
        """Return it as it is stored: ids as differences, which compress well."""
        packed = io.BytesIO()
        np.savez_compressed(
            packed,
            **self.proved._asdict(),
            ids=np.diff(self.ids, prepend=0),
            extras=np.diff(self.extras, prepend=0),
            gone=np.diff(self.gone, prepend=0),
        )
        return packed.getvalue()


def unpack(body: bytes) -> Shard:
    """Return a shard that was packed.

    Raises:
        ValueError, KeyError, OSError, zipfile.BadZipFile: it is no such thing.
    """
    with np.load(io.BytesIO(body)) as stored:
        proved = Proved(*(stored[name] for name in Proved._fields))
        # There were no tombstones at first.
        gone = np.cumsum(stored["gone"]) if "gone" in stored else NO_IDS
        return Shard(proved, np.cumsum(stored["ids"]), np.cumsum(stored["extras"]), gone)


@dataclass(frozen=True, slots=True)
class Summary:
    """What is told of a shard without reading it.

    Attributes:
        above: the id that its range begins above.
        up_to: the id that its range ends at.
        etag: the version of the shard's object.
        batches: how many batches it has.
        prints: the sum of the fingerprints of its batches and claims.
        landed: the digest of its ids, without those that are gone.
        extras: the digest of its extras, without those that are gone.
        gone: how many of its rows are gone.
        number: up to which object of the change stream its extras and gone are complete.
    """

    above: int
    up_to: int
    etag: str = ""
    batches: int = 0
    prints: int = 0
    landed: Digest = NO_ROWS
    extras: Digest = NO_ROWS
    gone: int = 0
    number: int = 0

    @property
    def held(self) -> int:
        """How many rows it has, also those that are gone."""
        return self.landed.rows + self.extras.rows + self.gone

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


def parse(content: Any) -> Inventory:
    """Return what a latest.json says.

    Raises:
        KeyError, TypeError, ValueError: it is not what we write.
    """
    shards = tuple(
        Summary(**each | {"landed": Digest(*each["landed"]), "extras": Digest(*each["extras"])})
        for each in content["shards"]
    )
    return Inventory(shards, int(content["changes"]), int(content["number"]))
