"""A run in a process of its own, killed at one of its steps."""

from __future__ import annotations

import os
import signal
import warnings
from itertools import count


def kill_self_at(point):
    steps = count()

    def step(_):
        if next(steps) == point:
            os.kill(os.getpid(), signal.SIGKILL)

    return step


def killed_at(place, point):
    """Run in a process of its own that kills itself at a step; tell whether it did."""
    with warnings.catch_warnings():
        # The other thread is moto's, which waits for requests and holds no lock.
        warnings.simplefilter("ignore", DeprecationWarning)
        process = os.fork()
    if process == 0:
        try:
            place.run(kill_self_at(point))
        finally:
            os._exit(1)
    _, status = os.waitpid(process, 0)
    return os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL


def steps_of(place):
    steps: list[str] = []
    place.again().run(steps.append)
    return steps
