"""Prints of lines, and which of many lines on the same ids are the last ones."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable

type Prints = np.ndarray[tuple[int], np.dtype[np.uint64]]


def prints_of(lines: Iterable[bytes]) -> Prints:
    """Return the print of each line: a number of 64 bits that tells it from others.

    Args:
        lines: without their line feeds.
    """
    found = b"".join([blake2b(line, digest_size=8).digest() for line in lines])
    return np.frombuffer(found, ">u8").astype(np.uint64)


def last_places(ids: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Return where each id occurs last, in the order of the ids.

    >>> last_places(np.array([7, 5, 7, 6])).tolist()
    [1, 3, 2]
    """
    # numpy finds the first of equal ones: hence from the end.
    _, from_the_end = np.unique(ids[::-1], return_index=True)
    return len(ids) - 1 - from_the_end
