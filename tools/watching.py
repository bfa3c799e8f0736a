"""Calls a function, and shows its log until the answer is there."""

from __future__ import annotations

import time
from concurrent.futures import Future, wait
from contextlib import suppress
from functools import partial
from threading import Thread
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from local.console import log_line
from tools.calling import Answer, call
from tools.following import Follower

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.stages import Function

    type Say = Callable[[str, str], None]
    type Take = Callable[[str, dict[str, Any]], None]

# CloudWatch Logs allows an account few of these requests a second.
POLL_SECONDS: Final = 2.0
# The last lines come some seconds after the answer.
LAST_POLLS: Final = 5


def watch(function: Function, event: object, say: Say) -> Answer:
    """Call a function once; meanwhile say each line that the service logs.

    If this is interrupted, the call goes on in AWS.

    Args:
        function: the one to call.
        event: what it gets.
        say: prints a line, and takes its level.

    Raises:
        CallError: see `call`.
    """
    log = Log(function, say)
    called = _in_background(partial(call, function, event))
    while not wait([called], POLL_SECONDS).done:
        log.show()
    answer = called.result()
    with suppress(KeyboardInterrupt):  # who does not want to wait for the last lines has an answer
        _show_last_lines(log, answer)
    return answer


def _show_last_lines(log: Log, answer: Answer) -> None:
    for _ in range(LAST_POLLS):
        log.show()
        if log.is_complete(answer.request_id):
            break
        time.sleep(POLL_SECONDS)


class Log:
    """The log of a function as it is shown: up to the first time that it can't be read."""

    def __init__(self, function: Function, say: Say, take: Take | None = None) -> None:
        """Prepare; nothing is read before `show`.

        Args:
            function: whose log it is.
            say: prints a line, and takes its level.
            take: takes each record, and the id of its call; without it, each record is said.
        """
        self._name, self._say = function.name, say
        self._follower = Follower(function, take or self._say_record)
        self._is_readable = True

    def show(self) -> None:
        """Show what has been logged since the last time."""
        try:
            if self._is_readable:
                self._follower.poll()
        except (BotoCoreError, ClientError) as error:
            self._is_readable = False
            self._say(
                f"  The log of {self._name} can't be read: {error}. The call goes on without it. "
                "Reading it takes logs:FilterLogEvents.",
                "WARNING",
            )

    def is_complete(self, request_id: str) -> bool:
        """Tell whether all lines of a call have been shown that can be."""
        return not self._is_readable or self._follower.has_ended(request_id)

    def _say_record(self, call_id: str, record: dict[str, Any]) -> None:
        self._say(record_line(call_id, record), record["level"])


def record_line(call_id: str, record: dict[str, Any]) -> str:
    """Return what is said of a record that a call has logged."""
    return f"  {call_id:8} {log_line(record)}"


def _in_background(work: Callable[[], Answer]) -> Future[Answer]:
    """Do work in a thread that the end of the program does not wait for."""
    future: Future[Answer] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 - raised where the result is asked for
            future.set_exception(error)

    Thread(target=run, daemon=True).start()
    return future
