"""The log of a Lambda function, and the metrics that CloudWatch reads from it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from datetime import datetime


@dataclass(frozen=True)
class Metric:
    """A value that CloudWatch would add to a metric."""

    namespace: str
    name: str
    dimensions: Mapping[str, str]
    value: float


class FunctionLog:
    """The log of one function."""

    def __init__(self, client: Any, function_name: str) -> None:
        """Take a boto3 client of CloudWatch Logs."""
        self._client = client
        self.group = f"/aws/lambda/{function_name}"

    def lines(self, since: datetime | None = None) -> list[str]:
        """Return every line so far, including Lambda's own: START, END and REPORT.

        Args:
            since: only lines from this time on.
        """
        start = {"startTime": int(since.timestamp() * 1000)} if since else {}
        pages = self._client.get_paginator("filter_log_events").paginate(
            logGroupName=self.group, **start
        )
        return [event["message"] for page in pages for event in page["events"]]

    def records(self) -> list[dict[str, Any]]:
        """Return the parsed lines of the function's logger, which have a `level`."""
        return [record for record in self._json() if "level" in record]

    def _json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines() if line.startswith("{")]


def calls(lines: Sequence[str]) -> Iterator[list[str]]:
    """Yield the lines of each call.

    AWS kills a process that exceeds its memory at once; the stand-in does so after the call, so the
    lines that such a call still wrote are left out.
    """
    call: list[str] = []
    for line in lines:
        call.append(line)
        if line.startswith("REPORT "):
            killed = any("signal: killed" in each for each in call)
            yield [each for each in call if not (killed and each.startswith("{"))]
            call = []
