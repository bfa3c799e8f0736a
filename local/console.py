"""What people see of a local stage: plain text, and on a terminal a spinner and bold headings."""

from __future__ import annotations

import signal
import time
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from contextlib import AbstractContextManager

TITLE_WIDTH = 62
# Nothing is cut off or folded: lines are to be pasted, and a terminal folds them by itself.
_WIDE = 10_000
# What a log line has besides what is shown of it.
_NOT_SHOWN = {"level", "location", "message", "timestamp", "service", "xray_trace_id"}
_STYLES = {"WARNING": "yellow", "ERROR": "bold red", "CRITICAL": "bold red"}


@contextmanager
def timed(title: str) -> Iterator[None]:
    """Print a title, and behind it how long the body took."""
    started, ended = time.monotonic(), "stopped after "
    line = f"  {title:.<{TITLE_WIDTH}}"
    if not _is_animated():
        print(line, end=" ", flush=True)
    try:
        with waiting(title):
            yield
        ended = ""
    finally:
        before = f"{line} " if _is_animated() else ""
        print(f"{before}{ended}{time.monotonic() - started:5.1f} s", flush=True)


def waiting(title: str) -> AbstractContextManager[object]:
    """Show a spinner with the seconds that the body takes; nothing where there is no terminal."""
    return _live(title) if _is_animated() else nullcontext()


@contextmanager
def lines_while_waiting(title: str) -> Iterator[Callable[[str, str], None]]:
    """Yield what prints a line and takes its level, on a terminal above a spinner as of `waiting`.

    Levels are those of log lines; a terminal shows warnings and errors in colour.
    """
    if _is_animated():
        with _live(title) as live:
            yield lambda line, level: live.console.print(
                Text(line, style=_STYLES.get(level, "")), soft_wrap=True
            )
    else:
        yield lambda line, _level: print(line, flush=True)


def heading(text: str) -> None:
    """Print a heading."""
    print(flush=True)
    _print_bold(text)
    print(flush=True)


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], names: Collection[int] = (0,)
) -> list[str]:
    """Return the lines of a table.

    Args:
        headings: of the columns.
        rows: the cells.
        names: the columns that are aligned left; numbers are aligned right.
    """
    made = Table(box=None, pad_edge=False, padding=(0, 1))
    for column, title in enumerate(headings):
        made.add_column(Text(title), justify="left" if column in names else "right", no_wrap=True)
    for row in rows:
        made.add_row(*map(Text, row))
    console = Console(width=_WIDE, force_terminal=False, color_system=None)
    with console.capture() as captured:
        console.print(made)
    return [line.rstrip() for line in captured.get().splitlines()]


def print_table(lines: Sequence[str]) -> None:
    """Print the lines of a table, the first of which has the headings."""
    _print_bold(lines[0])
    print(*lines[1:], sep="\n", flush=True)


def log_line(record: dict[str, Any]) -> str:
    """Return a JSON log line as one line of text: time, level, message, and its own fields.

    Fields that are 0, false or null are left out, but for the rows: most tables have nothing new.
    """
    fields = {
        name: value
        for name, value in record.items()
        if name not in _NOT_SHOWN and (value or name == "rows")
    }
    said = " ".join(f"{name}={value}" for name, value in fields.items())
    line = f"{record['timestamp'][11:19]} {record['level']:5} {record['message']}"
    return " ".join(f"{line}: {said}".splitlines()) if said else line


def interruptible() -> None:
    """Let SIGTERM end the program as Ctrl-C does, and Ctrl-C also one that a script started."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.default_int_handler)


class _Waiting:
    """A spinner, a title, and how long it has been there."""

    def __init__(self, title: str) -> None:
        self._spinner = Spinner("dots")
        self._title = title
        self._started = time.monotonic()

    def __rich__(self) -> Spinner:
        seconds = time.monotonic() - self._started
        self._spinner.update(text=Text(f"{self._title} {seconds:.0f} s"))
        return self._spinner


def _live(title: str) -> Live:
    return Live(_Waiting(title), console=_console(), transient=True, refresh_per_second=10)


def _console() -> Console:
    return Console()  # of what is standard output now: tests replace it


def _is_animated() -> bool:
    console = _console()
    return console.is_terminal and not console.is_dumb_terminal


def _print_bold(text: str) -> None:
    _console().print(Text(text, style="bold"), soft_wrap=True)
