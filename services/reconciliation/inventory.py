"""What the reconciliation knows of a table from earlier nights, so that it reads only what is new.

An inventory says which batches were read and found as they landed, by the fingerprints of their
versions, which ids they hold, and the print of each line. That stays true whatever happens to the
objects later, so an inventory may be old, lost or overtaken by that of another call: what it does
not cover is read.

It is in shards of about a million rows. `inventory/<table>/latest.json` has a summary of each,
which is enough for a night in which nothing in its range has changed; the rest is in objects beside
it. A shard also has what the change stream said of ids in its range.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from services.reconciliation.digests import NO_ROWS, Digest
from services.reconciliation.ids import LOWEST_ID, NO_IDS, NO_PRINTS, Ids
from shared.prints import Prints, last_places

if TYPE_CHECKING:
    from collections.abc import Mapping

# The day of a shard without batches.
NEVER = 9_999_999


class Proved(NamedTuple):
    """Batches that were found as they landed: the ids they begin above and end at, ascending.

    Attributes:
        starts: the ids they begin above.
        ends: the ids they end at.
        claims: the fingerprints of their claims.
        objects: the fingerprints of their objects.
        due: the days, as `date.toordinal` counts them, by which their rows' values are to be
            compared with the source's.
    """

    starts: Ids = NO_IDS
    ends: Ids = NO_IDS
    claims: Prints = NO_PRINTS
    objects: Prints = NO_PRINTS
    due: Ids = NO_IDS

    @property
    def total(self) -> int:
        """The sum of the fingerprints."""
        return int(np.concatenate((self.claims, self.objects)).sum(dtype=np.uint64))

    def chosen(self, which: Any) -> Proved:
        """Return some of them: an array that numpy takes as an index says which."""
        return Proved._make(column[which] for column in self)

    def joined(self, other: Proved) -> Proved:
        """Return both, ascending."""
        together = Proved._make(map(np.concatenate, zip(self, other, strict=True)))
        return together.chosen(np.argsort(together.starts))


NONE_PROVED = Proved()


class Said(NamedTuple):
    """The last lines of the change stream that are rows: ids, ascending and each once.

    Attributes:
        ids: the ids.
        numbers: the numbers of the objects that the lines are in.
        prints: the prints of the lines.
    """

    ids: Ids = NO_IDS
    numbers: Ids = NO_IDS
    prints: Prints = NO_PRINTS

    def chosen(self, which: Any) -> Said:
        """Return some of them: an array that numpy takes as an index says which."""
        return Said._make(column[which] for column in self)

    def then(self, later: Said) -> Said:
        """Return the last lines of both; the order of `later` is that in the stream."""
        together = Said._make(map(np.concatenate, zip(self, later, strict=True)))
        return together.chosen(last_places(together.ids))


NOTHING_SAID = Said()


@dataclass(frozen=True, slots=True)
class Shard:
    """A part of an inventory.

    Attributes:
        proved: the batches that were found as they landed.
        ids: the ids in these batches, ascending; an id occurs as often as there are rows of it.
        prints: the print of each of their lines.
        said: the last lines of the change stream on ids in the range.
        gone: the ids in the range whose last word in the change stream is a tombstone, ascending.
    """

    proved: Proved = NONE_PROVED
    ids: Ids = field(default_factory=lambda: NO_IDS)
    prints: Prints = field(default_factory=lambda: NO_PRINTS)
    said: Said = NOTHING_SAID
    gone: Ids = field(default_factory=lambda: NO_IDS)

    @property
    def rows(self) -> tuple[Ids, Ids]:
        """The ids of the rows that are not gone: in the batches, and only in the change stream."""
        extras = self.said.ids[~np.isin(self.said.ids, self.ids)]
        if not len(self.gone):
            return self.ids, extras
        return self.ids[~np.isin(self.ids, self.gone)], extras[~np.isin(extras, self.gone)]

    @property
    def last_lines(self) -> tuple[Ids, Prints]:
        """The ids of the rows that are not gone, ascending, and the print of each one's last line.

        Ids that several rows of the batches share are left out: which line is whose is not known.
        """
        distinct, first, times = np.unique(self.ids, return_index=True, return_counts=True)
        said = self.said.chosen(~np.isin(self.said.ids, distinct[times > 1]))
        landed = (times == 1) & ~np.isin(distinct, said.ids)
        ids = np.concatenate((distinct[landed], said.ids))
        prints = np.concatenate((self.prints[first[landed]], said.prints))
        order = np.argsort(ids)
        order = order[~np.isin(ids[order], self.gone)]
        return ids[order], prints[order]

    def pack(self) -> bytes:
        """Return it as it is stored: ids as differences, which compress well."""
        packed = io.BytesIO()
        np.savez_compressed(
            packed,
            **self.proved._asdict(),
            ids=np.diff(self.ids, prepend=0),
            prints=self.prints,
            said_ids=np.diff(self.said.ids, prepend=0),
            said_numbers=self.said.numbers,
            said_prints=self.said.prints,
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
        said = Said(np.cumsum(stored["said_ids"]), stored["said_numbers"], stored["said_prints"])
        ids, gone = np.cumsum(stored["ids"]), np.cumsum(stored["gone"])
        return Shard(proved, ids, stored["prints"], said, gone)


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
        extras: the digest of ids that only the change stream holds, without those that are gone.
        gone: how many of its rows are gone.
        number: up to which object of the change stream it has what was said.
        due: the first day by which values of its rows are to be compared, see `Proved`.
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
    due: int = NEVER

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
    shards = tuple(map(_parse_summary, content["shards"]))
    return Inventory(shards, int(content["changes"]), int(content["number"]))


def _parse_summary(content: Mapping[str, Any]) -> Summary:
    digests = {name: Digest(*content[name]) for name in ("landed", "extras")}
    # The first inventories had no prints, and no days: they are made anew.
    return Summary(**{**content, **digests, "due": int(content["due"])})
