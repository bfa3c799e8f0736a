"""Follows a load to its end, and says how far it is, and what goes wrong meanwhile.

How far it is comes from Step Functions, how many rows a second from the log.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from tools.loads import FINISHING, LANDING, PLANNING, StatesError
from tools.watching import Log, record_line

if TYPE_CHECKING:
    from tools.loads import Ended, Load, LoadStatus
    from tools.stages import Function
    from tools.watching import Say

POLL_SECONDS: Final = 5.0
LINE_SECONDS: Final = 30.0
# A network that is away for minutes, or credentials that have expired.
MOST_FAILURES: Final = 20

_CLAIMED, _LANDED = "Batches of a load claimed", "Batches of a load landed"
_PHASES: Final = {
    PLANNING: "planning: the batches are claimed, one after the other",
    FINISHING: "the workers are done; a last run lands what they left, and what is new",
}
_MINUTE, _HOUR, _DAY = 60, 3600, 86_400


def follow(load: Load, function: Function, say: Say) -> Ended:
    """Follow a load to its end; if this is interrupted, the load goes on in AWS.

    Args:
        load: the load.
        function: the one that the load calls, whose log is read.
        say: prints a line, and takes its level.

    Returns:
        How it has ended.

    Raises:
        StatesError: it can't be followed any more.
    """
    progress, failures, ended = Progress(say), 0, None
    log = Log(function, say, progress.take)
    while ended is None:
        log.show()
        try:
            status, ended = load.look()
            failures = 0
            progress.show(status, time.monotonic())
        except (BotoCoreError, ClientError) as error:
            failures += 1
            _refuse_too_many(failures, error)
        if ended is None:
            time.sleep(POLL_SECONDS)
    log.show()
    return ended


def _refuse_too_many(failures: int, error: Exception) -> None:
    if failures >= MOST_FAILURES:
        raise StatesError(
            f"The load can't be followed any more: {error}. It goes on in AWS. To follow it again, "
            "use the same command. Are the credentials still valid, and may you "
            "states:DescribeExecution, states:ListMapRuns, states:DescribeMapRun and "
            "states:GetExecutionHistory?"
        ) from error


class Progress:
    """What is said of a load while it goes on."""

    def __init__(self, say: Say) -> None:
        """Start with nothing known of it; `say` prints a line, and takes its level."""
        self._say = say
        self._table = ""
        self._rows = 0
        self._phase = ""
        self._said_at = self._began_at = 0.0
        self._done_before = 0

    def take(self, call_id: str, record: dict[str, Any]) -> None:
        """Take a record of the function's log: count its rows, or say it.

        What is said: warnings and errors, of ticks, too, and how far the batches are claimed.
        """
        if record["message"] == _LANDED and record["table"] == self._table:
            self._rows += record["rows"]
        elif record["level"] != "INFO" or record["message"] == _CLAIMED:
            self._say(record_line(call_id, record), record["level"])

    def show(self, status: LoadStatus, now: float) -> None:
        """Say how far the load is, where that is news or some time has passed."""
        self._table = status.table
        is_new = status.phase != self._phase
        if is_new and status.phase == LANDING:
            self._began_at, self._done_before, self._rows = now, status.done, 0
        if not is_new and (status.phase != LANDING or now - self._said_at < LINE_SECONDS):
            return
        self._phase, self._said_at = status.phase, now
        if text := self._landing(status, now) if status.phase == LANDING else _said_of(status):
            self._say(f"  {'':8} {datetime.now(UTC):%H:%M:%S} {text}", "INFO")

    def _landing(self, status: LoadStatus, now: float) -> str:
        seconds, batches = now - self._began_at, status.batches or 0
        text = f"{status.done:,} of {batches:,} batches"
        done = status.done - self._done_before
        if self._rows:
            text += f", {self._rows / seconds:,.0f} rows a second"
        if done:
            text += f", {spoken((batches - status.done) / done * seconds)} left"
        return text


def _said_of(status: LoadStatus) -> str:
    return _PHASES.get(status.phase, "")


def spoken(seconds: float) -> str:
    """Return a time as people say it, in two units at most.

    >>> spoken(45), spoken(4320), spoken(270_000)
    ('45 s', '1 h 12 min', '3 d 3 h')
    """
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min"
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"
