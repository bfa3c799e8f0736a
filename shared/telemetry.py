"""Log lines and metrics, in the form that the alarms expect."""

from __future__ import annotations

import sys
from functools import cache
from typing import TYPE_CHECKING

from aws_lambda_powertools import Logger

from shared.errors import PipelineError

if TYPE_CHECKING:
    from collections.abc import Mapping


@cache
def logger() -> Logger:
    """Return the logger: JSON lines on stderr; metrics are on stdout."""
    return Logger(stream=sys.stderr)


def failure(message: str, error: Exception, **fields: str) -> None:
    """Log what failed and why, in the error's words.

    An ERROR line fires an alarm. A failure that a retry may fix is a WARNING: if no retry does, the
    execution fails, which has an alarm of its own.
    """
    transient = isinstance(error, PipelineError) and error.transient
    log = logger().warning if transient else logger().error
    log(message, extra={"error": type(error).__name__, "reason": str(error)} | fields)


def emit(values: Mapping[str, float], dimensions: Mapping[str, str]) -> None:
    """Write metrics of the same dimensions as a log line in CloudWatch's embedded metric format.

    Args:
        values: by the metric's name. A name that ends in `Seconds` or begins with `Bytes` has that
            unit; all others are counts.
        dimensions: values by name: `{"stage": "prod", "table": "address"}`.
    """
    from aws_lambda_powertools.metrics import EphemeralMetrics

    blob = EphemeralMetrics()
    for dimension, text in dimensions.items():
        blob.add_dimension(name=dimension, value=text)
    for metric, value in values.items():
        blob.add_metric(name=metric, unit=_unit(metric), value=value)
    blob.flush_metrics()


def _unit(name: str) -> str:
    if name.endswith("Seconds"):
        return "Seconds"
    return "Bytes" if name.startswith("Bytes") else "Count"
