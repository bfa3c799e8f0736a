"""What Lambda tells a handler about its call."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext


class Context(LambdaContext):
    """The context of a call that has all its time left."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """Return four minutes."""
        return 240_000


class RunningOut(LambdaContext):
    """The context of a call that has less time left each time it asks; the last for ever."""

    def __init__(self, *seconds: float) -> None:
        """Take how many seconds are left, first to last."""
        self._seconds = list(seconds)

    def get_remaining_time_in_millis(self) -> int:
        """Return the next of them."""
        seconds = self._seconds.pop(0) if self._seconds[1:] else self._seconds[0]
        return round(seconds * 1000)


CONTEXT = Context()
