"""Log lines and metrics, the way the alarms expect them."""

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

    An alarm waits for ERROR lines. What another try may fix is a WARNING: should none, the
    execution fails, and that has an alarm of its own.
    """
    transient = isinstance(error, PipelineError) and error.transient
    log = logger().warning if transient else logger().error
    log(message, extra={"error": type(error).__name__, "reason": str(error)} | fields)


def emit(values: Mapping[str, float], dimensions: Mapping[str, str]) -> None:
    """Write metrics of one set of dimensions as a log line in CloudWatch's embedded format.

    Args:
        values: the metrics' values by name; a name that ends in Seconds or Bytes has that unit.
        dimensions: names and values.
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
