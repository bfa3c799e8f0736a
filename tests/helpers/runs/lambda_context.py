"""What Lambda tells a handler about its call."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext


class Context(LambdaContext):
    """The context of a call that has all its time left."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """Return four minutes."""
        return 240_000


def running_out(*seconds: float) -> LambdaContext:
    """Return the context of a call that has so many seconds left, first to last, when it asks."""
    left = list(seconds)

    class RunningOut(LambdaContext):
        @staticmethod
        def get_remaining_time_in_millis() -> int:
            return round(1000 * (left.pop(0) if left[1:] else left[0]))

    return RunningOut()


CONTEXT = Context()
