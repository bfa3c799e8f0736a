"""Plain text for people who watch a local stage."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

TITLE_WIDTH = 62
# What a log line has besides what is shown of it.
_NOT_SHOWN = {"level", "location", "message", "timestamp", "service"}


@contextmanager
def timed(title: str) -> Iterator[None]:
    """Print a title, and behind it how long the body took."""
    print(f"  {title:.<{TITLE_WIDTH}}", end=" ", flush=True)
    started = time.monotonic()
    yield
    print(f"{time.monotonic() - started:5.1f} s", flush=True)


def heading(text: str) -> None:
    """Print a heading."""
    print(f"\n{text}\n", flush=True)


def log_line(record: dict[str, Any]) -> str:
    """Return a JSON log line as text: time, level, message, and the fields of its own."""
    fields = {name: value for name, value in record.items() if name not in _NOT_SHOWN}
    said = " ".join(f"{name}={value}" for name, value in fields.items())
    return f"{record['timestamp'][11:19]} {record['level']:5} {record['message']}: {said}"


def interruptible() -> None:
    """Let SIGTERM end the program as Ctrl-C does, and Ctrl-C also one that a script started."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)
