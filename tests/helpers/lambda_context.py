"""What Lambda tells a handler about its call."""

from __future__ import annotations

from aws_lambda_powertools.utilities.typing import LambdaContext


class Context(LambdaContext):
    """The context of a call that has all its time left."""

    @staticmethod
    def get_remaining_time_in_millis() -> int:
        """Return four minutes."""
        return 240_000


CONTEXT = Context()
