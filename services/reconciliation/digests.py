"""Digests of ids: whether two sets of rows have the same ids is told without comparing them.

A digest is the number of rows, the sum of their ids, and the sum of a mixture of each id. The
server makes it in SQL, and this module of ids that have landed; both do the same integer
arithmetic, which is why it is our own. The digests of disjoint sets add up to that of their union.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from services.reconciliation.ids import Ids

# Two primes below 2^31, so that no product exceeds a bigint, and a multiplier that parts
# neighbours. The square is there because a sum of what is linear would follow from the sum of ids.
_P, _Q, _FACTOR = 2**31 - 1, 2**31 - 19, 1_103_515

_SPREAD = f"((id % {_P} * {_FACTOR} + id / {_P}) % {_P})"
# For a SELECT from rows with a column `id` of type bigint; the sums are of type numeric.
SQL = f"count(*), coalesce(sum(id), 0), coalesce(sum({_SPREAD} * {_SPREAD} % {_Q}), 0)"


class Digest(NamedTuple):
    """What is known of the ids of some rows: see the module."""

    rows: int = 0
    total: int = 0
    mixed: int = 0

    def plus(self, other: Digest) -> Digest:
        """Return the digest of the rows of both."""
        return Digest(*(mine + its for mine, its in zip(self, other, strict=True)))


NO_ROWS = Digest()


def digest(ids: Ids) -> Digest:
    """Return the digest of ids; one that occurs twice counts twice.

    >>> digest(np.array([1, 2, 2]))
    Digest(rows=3, total=5, mixed=1099238238)
    """
    remainder = np.fmod(ids, _P)  # like SQL: the sign is that of the id
    spread = np.fmod(remainder * _FACTOR + (ids - remainder) // _P, _P)
    return Digest(len(ids), _sum(ids), _sum(np.fmod(spread * spread, _Q)))


def _sum(numbers: Ids) -> int:
    """Return the sum, which may exceed 64 bits."""
    return (int((numbers >> 32).sum()) << 32) + int((numbers & 0xFFFFFFFF).sum())
