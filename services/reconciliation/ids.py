"""Ids of rows, as arrays of numpy."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from shared.prints import Prints

type Ids = np.ndarray[tuple[int], np.dtype[np.int64]]

NO_IDS: Ids = np.empty(0, np.int64)
NO_PRINTS: Prints = np.empty(0, np.uint64)

# One above the lowest bigint, for which SQL has no literal.
LOWEST_ID = 1 - 2**63


def split(ids: Ids, last: int) -> tuple[Ids, Ids]:
    """Return the ids up to the last one, and those above."""
    until = np.searchsorted(ids, last, side="right")
    return ids[:until], ids[until:]


def only_once(ids: Ids) -> Ids:
    """Return those ids that occur only once."""
    distinct, times = np.unique(ids, return_counts=True)
    once: Ids = distinct[times == 1]
    return once


def without(rows: Ids, others: Ids) -> Ids:
    """Return the ids of the rows that have no counterpart among others, both ascending.

    >>> without(np.array([1, 2, 2, 2, 3]), np.array([2, 3, 4]))
    array([1, 2, 2])
    """
    # The n-th row of an id has a counterpart if others have at least n rows of it.
    occurrence = np.arange(len(rows)) - np.searchsorted(rows, rows)
    counterpart = np.searchsorted(others, rows) + occurrence
    return rows[counterpart >= np.searchsorted(others, rows, side="right")]
