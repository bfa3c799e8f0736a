"""One Lambda execution environment: a process in which AWS's own runtime client calls the handler.

The function sees only what it sees on AWS: its zip, its layers, the libraries of the runtime, and
its environment variables.
"""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from queue import Empty
from threading import Thread
from typing import TYPE_CHECKING

from local.aws.functions.runtime_api import Answer, Call, RuntimeApi

if TYPE_CHECKING:
    from collections.abc import Mapping

# AWS allows 10 seconds for importing the handler and then tries again; a busy laptop needs longer.
INIT_SECONDS = 60


class Sandbox:
    """A process that runs one handler, one event at a time, and is used again while it lives."""

    def __init__(
        self, handler: str, folders: list[Path], environment: Mapping[str, str], log: Path
    ) -> None:
        """Start the process.

        Args:
            handler: as in the template, e.g. `services/ingestion/handler.lambda_handler`.
            folders: where modules are found, in this order; the first is the working directory.
            environment: all environment variables but the two that belong to this class.
            log: the file that gets stdout and stderr.
        """
        self._api = RuntimeApi()
        self.started = time.monotonic()
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                # -S: the packages of this virtual environment are out of sight.
                [sys.executable, "-S", "-m", "awslambdaric", handler],
                cwd=folders[0],
                env={
                    **environment,
                    "PYTHONPATH": ":".join(map(str, folders)),
                    "AWS_LAMBDA_RUNTIME_API": self._api.address,
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        self._log, self._log_offset = log, 0
        Thread(target=self._watch, daemon=True).start()

    @property
    def alive(self) -> bool:
        """Tell whether the process can take another event."""
        return self._process.poll() is None

    @property
    def exit_status(self) -> int | None:
        """Return `subprocess.Popen.returncode`; None while it runs."""
        return self._process.poll()

    def invoke(self, call: Call) -> tuple[Answer, float]:
        """Hand the event over; return the answer, and when the handler got the event.

        The answer has no body if its kind is `exit` or `timeout`.
        """
        self._api.calls.put(call)
        taken = self.started
        try:
            answer = self._api.answers.get(timeout=INIT_SECONDS)
            if answer.kind == "taken":
                taken = answer.at
                answer = self._api.answers.get(timeout=call.timeout)
        except Empty:
            answer = Answer("timeout")
        return answer, taken

    def new_output(self) -> list[str]:
        """Return the lines that the process wrote since the last call of this method."""
        with self._log.open("rb") as log:
            log.seek(self._log_offset)
            output = log.read()
        self._log_offset += len(output)
        return output.decode(errors="replace").splitlines()

    def peak_memory(self) -> int:
        """Return the most memory the process ever had resident, in MB; 0 when it has ended."""
        status = Path(f"/proc/{self._process.pid}/status")
        with suppress(OSError):
            lines = status.read_text().splitlines() if self.alive else []
            return sum(int(line.split()[1]) for line in lines if line.startswith("VmHWM:")) // 1024
        return 0

    def stop(self) -> None:
        """Kill the process and wait until it is gone."""
        self._process.kill()
        self._process.wait()
        self._api.close()

    def _watch(self) -> None:
        self._process.wait()
        self._api.answers.put(Answer("exit"))
