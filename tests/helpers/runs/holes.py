"""Batches as a load leaves them behind: claimed beforehand, and landed in any order."""

from __future__ import annotations

from contextlib import closing
from itertools import pairwise
from typing import TYPE_CHECKING

from shared.bucket import keys
from shared.bucket.claims import create_claim
from shared.jsonlines import render
from shared.postgres.reader import read_settled_rows

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from shared.tables import Table
    from tests.helpers.runs.place import Place

_TIME = "2024-11-11T15-03-24"


def batch_key(table: Table, end: int) -> str:
    """Return the key of the batch that ends at an id."""
    return keys.format_data_key(table, end, _TIME)


def claim_batches(place: Place, table: Table, ends: Sequence[int]) -> None:
    """Claim batches, each up to one of the ids but the first, above the one before."""
    for above, end in pairwise(ends):
        assert create_claim(table, above, batch_key(table, end), place.bucket)


def land_batches(place: Place, table: Table, batches: Iterable[tuple[int, int]]) -> None:
    """Land batches that are claimed, with the rows above an id up to another as they are now."""
    batches = list(batches)
    if not batches:
        return
    with closing(place.session()) as session:
        rows = read_settled_rows(table, min(batches)[0], max(batches)[1], session).rows
    ids = rows[table.id_column].to_numpy()
    for above, end in batches:
        begin, behind = ids.searchsorted([above, end], side="right")
        assert place.bucket.put_rows(batch_key(table, end), render(rows.iloc[begin:behind]))
