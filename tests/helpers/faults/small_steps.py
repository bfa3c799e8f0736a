"""The reconciliation in steps of a few ids: what goes wrong between two shows in a small table."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

_SERVICE = "services.reconciliation"


def hold_few_ids(patch: pytest.MonkeyPatch, ids: int) -> None:
    """Let it hold only so many landed ids at once, however many batches that are."""
    patch.setattr(f"{_SERVICE}.chain._SHARD_ROWS", ids)
    patch.setattr(f"{_SERVICE}.said._HELD_IDS", ids)


def hold_few_batches(patch: pytest.MonkeyPatch, batches: int) -> None:
    """Let a shard of the inventory have only so many batches."""
    patch.setattr(f"{_SERVICE}.chain._SHARD_BATCHES", batches)


def read_few_ids(patch: pytest.MonkeyPatch, ids: int) -> None:
    """Let a statement read only so many ids of the source."""
    patch.setattr(f"{_SERVICE}.source_ids._STATEMENT_IDS", ids)


def look_few_ids_up(patch: pytest.MonkeyPatch, ids: int) -> None:
    """Let a statement look only so many missing ids up again."""
    patch.setattr(f"{_SERVICE}.source_ids._LOOKED_UP_IDS", ids)


def list_few(patch: pytest.MonkeyPatch, ranges: int) -> None:
    """Let the object with the findings list only so many ranges of ids of a table."""
    patch.setattr(f"{_SERVICE}.report._LISTED", ranges)
