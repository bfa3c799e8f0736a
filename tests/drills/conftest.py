"""The local stage for drills, and the table they print at the end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from local.cloudwatch.simulation import record
from tests.helpers.runs.drills import state_machine

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.cloudwatch.simulation import Recording
    from local.stage import LocalStage
    from tests.helpers.runs.drills import Outcome

MATRIX = pytest.StashKey[dict[str, "Outcome"]]()


def pytest_configure(config: pytest.Config) -> None:
    config.stash[MATRIX] = {}


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Print which alarms each fault fires, and after how many minutes."""
    if drills := config.stash[MATRIX]:
        terminalreporter.section(
            "drills: the emails of each fault, and minutes until they are sent"
        )
        for fault, outcome in drills.items():
            emails = ", ".join(f"{name} {minutes:.0f}" for name, minutes in outcome.emails)
            terminalreporter.line(f"{fault:40} {emails or 'none'}")


@pytest.fixture
def matrix(pytestconfig: pytest.Config) -> dict[str, Outcome]:
    """What the drills so far did, by fault."""
    return pytestconfig.stash[MATRIX]


@pytest.fixture(scope="session")
def resources(stage: LocalStage) -> dict[str, Any]:
    """The resources of the compiled template."""
    return stage.resources()


@pytest.fixture(scope="module")
def drilled(stage: LocalStage) -> Iterator[LocalStage]:
    """The stage, caught up, with a state machine that does not wait long before it retries."""
    with state_machine(stage):
        stage.run()
        yield stage


@pytest.fixture(scope="session")
def recordings() -> dict[str, Sequence[Recording | None]]:
    """The runs of the faults that were injected so far, by fault."""
    return {}


@pytest.fixture(scope="module")
def healthy(drilled: LocalStage) -> Recording:
    """A good run that finds nothing new."""
    return record(drilled)
