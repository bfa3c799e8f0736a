"""Which cases of a test run in `make test`; the others run in `make test-long`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Any


def one_in(stride: int, cases: Iterable[Any]) -> list[Any]:
    """Mark all cases as long but the first, and each `stride`-th after it.

    Args:
        stride: of how many cases one is short.
        cases: the values of one argument, in any order that does not change.

    Example:
        >>> one_in(3, ["a", "b", "c", "d"])[::3]
        ['a', 'd']
    """
    return [as_long(case) if number % stride else case for number, case in enumerate(cases)]


def all_but(long: Iterable[Any], cases: Iterable[Any]) -> list[Any]:
    """Mark those cases as long."""
    long = set(long)
    return [as_long(case) if case in long else case for case in cases]


def as_long(case: Any) -> Any:
    """Mark one case as long."""
    return pytest.param(case, marks=pytest.mark.long)
