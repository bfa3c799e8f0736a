"""One deployed local stage for all tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.stage import LocalStage
from tests.helpers.processes import processes_of

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def stage() -> Iterator[LocalStage]:
    """The stage; tests leave it able to run, and expect nothing of what has landed so far.

    Nothing of it may be left at the end.
    """
    with LocalStage(events=300) as running:
        folders = [running.server.host, running.aws.folder]
        assert all(processes_of(folder) for folder in folders)
        yield running
    assert [processes_of(folder) for folder in folders] == [[], []]
