"""What a racer takes, measured from outside: by one clock, whatever it is written in.

A racer is a process that answers requests, see `benchmarks.answering`. Its start, its imports and
what connects it come before its first answer, and are not counted: a warm function has them, too.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from typing import IO, TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from local.totesys.database import Server

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_ROOT = Path(__file__).resolve().parents[1]


class Cost(NamedTuple):
    """What a lap took.

    Attributes:
        seconds: of the wall clock.
        cpu_seconds: of the racer's processor time.
        server_seconds: of PostgreSQL's processor time, in whatever backends.
        peak_megabytes: the most memory that the racer's process has had since it began.
    """

    seconds: float
    cpu_seconds: float
    server_seconds: float
    peak_megabytes: float


class Dialect(NamedTuple):
    """How a racer is spoken to.

    Attributes:
        phrase: makes lines of a request; an empty one asks whether it is ready.
        parse: makes an answer of a line: `rows`, how many it wrote, or `error`.
    """

    phrase: Callable[[Mapping[str, Any]], str]
    parse: Callable[[str], dict[str, Any]]


JSON = Dialect(json.dumps, json.loads)


class Racer:
    """A process that was asked to get ready, and is."""

    def __init__(
        self, name: str, process: subprocess.Popen[str], dialect: Dialect, errors: IO[str]
    ) -> None:
        """Wait until it is ready; `errors` is where it writes its own."""
        self._name = name
        self._process = process
        self._dialect = dialect
        self._errors = errors
        self.ask({})

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Return its answer.

        Raises:
            RuntimeError: it died.
        """
        assert self._process.stdin
        assert self._process.stdout
        print(self._dialect.phrase(request), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        if not answer:
            self._process.wait()  # its last words come after the end of its output
            self._errors.seek(0)
            raise RuntimeError(f"{self._name} died: {self._errors.read()[-2000:]}")
        return self._dialect.parse(answer)

    def lap(self, request: Mapping[str, Any], server: Server, rows: int) -> Cost:
        """Let it write so many rows, and return what that took.

        Raises:
            RuntimeError: it did not.
        """
        pid, postmaster = self._process.pid, _postmaster(server)
        used, served = cpu_seconds(pid), cpu_seconds(postmaster)
        begun = time.perf_counter()
        answer = self.ask(request)
        seconds = time.perf_counter() - begun
        if answer.get("rows") != rows:
            raise RuntimeError(f"{self._name} was to write {rows} rows: {answer}")
        return Cost(
            seconds,
            cpu_seconds(pid) - used,
            cpu_seconds(postmaster) - served,
            _peak_megabytes(pid),
        )


@contextmanager
def racing(
    name: str,
    command: Sequence[str | Path],
    dialect: Dialect = JSON,
    environment: Mapping[str, str] | None = None,
) -> Iterator[Racer]:
    """Start a racer, yield it when it is ready, and let it end.

    Args:
        name: what errors call it.
        command: what runs it.
        dialect: how it is spoken to.
        environment: variables beside those of this process.
    """
    with (
        tempfile.TemporaryFile("w+") as errors,
        subprocess.Popen(
            command,
            cwd=_ROOT,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as process,
    ):
        try:
            yield Racer(name, process, dialect, errors)
        except BaseException:
            process.kill()
            raise


def in_turn(laps: Mapping[str, Callable[[], Cost]], rounds: Mapping[str, int]) -> dict[str, Cost]:
    """Return the medians of laps that are made round by round, so that all see the same machine.

    Args:
        laps: how to make a lap, by racer.
        rounds: in how many rounds each takes part.
    """
    costs: dict[str, list[Cost]] = {name: [] for name in laps}
    for number in range(max(rounds.values())):
        for name, lap in laps.items():
            if number < rounds[name]:
                costs[name].append(lap())
    return {
        name: Cost(*(median(figures) for figures in zip(*found, strict=True)))
        for name, found in costs.items()
    }


def _postmaster(server: Server) -> int:
    return int((server.directory / "postmaster.pid").read_text().split()[0])


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process, of its children, and of those that have ended."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            stat = path.read_text()
        except OSError:  # it has ended just now
            continue
        parent, *numbers = map(int, stat.rsplit(") ", 1)[1].split()[1:15])
        own, of_ended = sum(numbers[9:11]), sum(numbers[11:13])
        if parent == pid or path.parent.name == str(pid):
            ticks += own + of_ended
    return ticks / CLOCK_TICKS


def _peak_megabytes(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    [kilobytes] = [int(line.split()[1]) for line in lines if line.startswith("VmHWM:")]
    return kilobytes / 1024
