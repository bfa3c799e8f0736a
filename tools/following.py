"""Follows the log of a function while it runs: what the service logs, each line once."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import boto3
from botocore.config import Config

from tools.stages import log_group

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.stages import Function

# CloudWatch takes in the lines of several processes one after the other: some come late.
LATE_MILLISECONDS: Final = 60_000
# Of a request id, as much as people need to tell calls apart.
SHORT: Final = 8
# What stands for the id of a call that began before this log was followed.
EARLIER: Final = "earlier"

_START = re.compile(r"START RequestId: (\S+)")
_END = re.compile(r"END RequestId: (\S+)")


class Follower:
    """The log of one function, from the moment at which the function was looked up.

    All calls of a function write to one log, those of the schedule, too. A stream of it has the
    lines of one process, and a process has one call at a time: so each line's call is known from
    the START line before it.
    """

    def __init__(self, function: Function, show: Callable[[str, dict[str, Any]], None]) -> None:
        """Prepare; nothing is read before `poll`.

        Args:
            function: whose log is followed.
            show: takes the first characters of a call's request id, and a record that the service
                logged in this call.
        """
        retries: Any = {"mode": "standard", "total_max_attempts": 3}
        config = Config(connect_timeout=5, read_timeout=15, retries=retries)
        self._client: Any = boto3.client("logs", region_name=function.region, config=config)
        self._group = log_group(function.name)
        self._show = show
        self._from = int(function.seen_at.timestamp() * 1000)
        self._taken: dict[str, int] = {}  # timestamps of the events since `_from`, by id
        self._running: dict[str, str] = {}  # request ids, by stream
        self._ended: set[str] = set()

    def poll(self) -> None:
        """Show what has been logged since the last time.

        Raises:
            BotoCoreError, ClientError: the log can't be read from here.
        """
        pages = self._client.get_paginator("filter_log_events").paginate(
            logGroupName=self._group, startTime=self._from
        )
        for page in pages:
            for event in page["events"]:
                if event["eventId"] not in self._taken:
                    self._taken[event["eventId"]] = event["timestamp"]
                    self._take(event["logStreamName"], event["message"])
        self._forget()

    def has_ended(self, request_id: str) -> bool:
        """Tell whether all lines of a call have been shown."""
        return request_id in self._ended

    def _take(self, stream: str, message: str) -> None:
        if started := _START.match(message):
            self._running[stream] = started[1]
        elif ended := _END.match(message):
            self._running.pop(stream, None)
            self._ended.add(ended[1])
        elif record := _record(message):
            self._show(self._running.get(stream, EARLIER)[:SHORT], record)

    def _forget(self) -> None:
        """Keep the ids of the events that the next poll finds again, and no others."""
        newest = max(self._taken.values(), default=self._from)
        self._from = max(self._from, newest - LATE_MILLISECONDS)
        self._taken = {id_: at for id_, at in self._taken.items() if at >= self._from}


def _record(message: str) -> dict[str, Any] | None:
    """Return what the service's logger wrote; None for metrics and for what Lambda writes."""
    try:
        record = json.loads(message) if message.startswith("{") else None
    except ValueError:
        return None
    needed = {"timestamp", "level", "message"}
    return record if isinstance(record, dict) and needed <= record.keys() else None
