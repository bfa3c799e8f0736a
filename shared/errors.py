"""The errors that a run can end with.

Their names are an interface: Lambda reports the bare class name, and the state machine retries by
name, without regard to inheritance. So each class says in `transient` whether the state machine
retries it; a test compares the two.
"""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import ClassVar


class PipelineError(Exception):
    """Base of all our errors; the message says what failed and what to do.

    Attributes:
        transient: whether the state machine retries it.
        alarm: the alarm for it, if it has one of its own; see `shared.telemetry`.
    """

    transient: ClassVar[bool] = False
    alarm: str | None = None


class ConfigError(PipelineError):
    """The environment or the secret is wrong, or the storage too small: fix the deployment."""

    alarm = "aws-refused"


class EventError(PipelineError):
    """The event asks for something that does not exist: fix the input."""


class SourceError(PipelineError):
    """The database refused the request, or does not have what it asks for."""

    alarm = "database-refused"


class SourceUnavailableError(PipelineError):
    """The database can't be reached, or the connection broke: worth a retry."""

    transient = True
    alarm = "database-unavailable"


class LandingError(PipelineError):
    """S3 refused the request: the bucket or a permission is missing."""

    alarm = "aws-refused"


class LandingUnavailableError(PipelineError):
    """AWS is overloaded, fails or can't be reached: worth a retry."""

    transient = True
    alarm = "aws-unavailable"


class StateError(PipelineError):
    """An object that holds a table's state is not valid."""

    alarm = "aws-refused"


class UnfinishedError(PipelineError):
    """The time of a reconciliation was up; its next call continues where it stopped."""

    alarm = "reconcile-failed"


class LoadError(PipelineError):
    """A load ended, and some of its batches have not landed: start it again."""

    alarm = "load-failed"


class IngestionError(PipelineError):
    """Some tables failed, at least one with an error that a retry does not fix."""

    alarm: str | None = "executions-failed"  # each table's failure has an alarm, too

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
    """Some tables failed, each with an error that a retry may fix."""

    transient = True

    def __init__(self, failures: dict[str, PipelineError]) -> None:
        """Name every failed table; the alarm is that of the first."""
        super().__init__(failures)
        self.alarm = next(iter(failures.values())).alarm


def explained(error: Exception) -> PipelineError:
    """Return the error if it is ours, else a PipelineError that names its type and place.

    The message of a foreign error is left out, because it may quote a value of a row.
    """
    if isinstance(error, PipelineError):
        return error
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    wrapped = PipelineError(f"Unexpected {type(error).__name__} in {place}. Please report it.")
    wrapped.__cause__ = error
    return wrapped


def run_error(failures: dict[str, PipelineError]) -> IngestionError:
    """Return one error for all failures of a run: transient if and only if each of them is."""
    if all(error.transient for error in failures.values()):
        return TransientIngestionError(failures)
    return IngestionError(failures)
