"""The errors a run can end with.

Their names are an interface: Lambda reports the bare class name and the state machine decides by
it whether to try again (it knows no inheritance), so each class says in `transient` what the
state machine does. A test compares the two.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import ClassVar


class PipelineError(Exception):
    """Base of all errors of ours; its message says what failed and what to do."""

    transient: ClassVar[bool] = False


class ConfigError(PipelineError):
    """The environment or the secret is wrong: fix the deployment."""


class EventError(PipelineError):
    """The event asks for something that does not exist: fix the input."""


class SourceError(PipelineError):
    """The database answered, and refused or lacks what was asked for."""


class SourceUnavailableError(PipelineError):
    """The database could not be reached, or broke off: worth another try."""

    transient = True


class LandingError(PipelineError):
    """S3 answered and refused: bucket or permission missing."""


class LandingUnavailableError(PipelineError):
    """AWS was overloaded, failed or could not be reached: worth another try."""

    transient = True


class StateError(PipelineError):
    """An object that holds the state of a table can't be understood."""


class IngestionError(PipelineError):
    """Some tables failed, at least one of them for a reason that another try does not fix."""

    def __init__(self, failures: dict[str, PipelineError]) -> None:
        """Name every failed table.

        Args:
            failures: what went wrong, by table.
        """
        self.failures = failures
        described = "; ".join(
            f"{table}: {type(error).__name__}: {error}" for table, error in failures.items()
        )
        super().__init__(f"{len(failures)} table(s) failed. {described}")


class TransientIngestionError(IngestionError):
    """Some tables failed, each of them for a reason that another try may fix."""

    transient = True


def explained(error: Exception) -> PipelineError:
    """Return an error of ours; for any other, what may be said of it.

    That is not its message, which may quote a value of a row. An AssertionError is raised again:
    only tests raise one, and theirs is no failure of a table.
    """
    if isinstance(error, PipelineError):
        return error
    if isinstance(error, AssertionError):
        raise error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    wrapped = PipelineError(f"Unexpected {type(error).__name__} in {place}. Please report it.")
    wrapped.__cause__ = error
    return wrapped


def run_error(failures: dict[str, PipelineError]) -> IngestionError:
    """Return the one error of a run: transient if and only if every failure is."""
    if all(error.transient for error in failures.values()):
        return TransientIngestionError(failures)
    return IngestionError(failures)
