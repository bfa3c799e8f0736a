"""Log lines, in the form that the alarms expect.

Metric filters count lines, and alarms watch the counts (resources/logs.yml). An ERROR line fires
the alarm that its field `alarm` names; without one it fires that of all other errors.
"""

from __future__ import annotations

import sys
from functools import cache

from aws_lambda_powertools import Logger

from shared.errors import PipelineError


@cache
def logger() -> Logger:
    """Return the logger: JSON lines on stderr."""
    return Logger(stream=sys.stderr)


def failure(message: str, error: Exception, **fields: str) -> None:
    """Log what failed and why, in the error's words.

    A failure that a retry may fix is a WARNING: its alarm fires only if the retries fail, too.
    """
    ours = error if isinstance(error, PipelineError) else PipelineError()
    alarm = {"alarm": ours.alarm} if ours.alarm else {}
    log = logger().warning if ours.transient else logger().error
    log(message, extra={"error": type(error).__name__, "reason": str(error)} | alarm | fields)
