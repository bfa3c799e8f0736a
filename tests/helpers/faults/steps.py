"""The steps of a run: every request to S3 and every statement, to stop at or to disturb."""

from __future__ import annotations

import queue
import threading
from collections import Counter
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    Step = Callable[[str], None]

_DEADLINE_SECONDS = 30.0


def on_every_step(client: S3Client, connection: Connection, step: Step) -> None:
    """Call `step` before and after every request and statement, with words for it."""
    events = client.meta.events

    def before(request: Any, event_name: str, **_: Any) -> None:
        step(f"before {_operation(event_name)} {request.url}")

    def after(model: Any, **_: Any) -> None:
        step(f"after {model.name}")

    events.register("before-send.s3", before)
    events.register("after-call.s3", after)
    run = connection.run

    def stepping(sql: str, *args: Any, **kwargs: Any) -> Any:
        words = " ".join(sql.split())[:60]
        step(f"before {words}")
        result = run(sql, *args, **kwargs)
        step(f"after {words}")
        return result

    connection.run = stepping


def operations(work: Callable[[Step], Any]) -> Counter[str]:
    """Do some work; return how often it called each operation of S3."""
    steps: list[str] = []
    work(steps.append)
    return Counter(step.split()[1] for step in steps if step.startswith("after"))


def _operation(event_name: str) -> str:
    return event_name.rpartition(".")[2]


class Immediately:
    """Does at once what an executor would do in a thread: so all steps have one order."""

    def __init__(self, _: int) -> None:
        pass

    def __enter__(self) -> Immediately:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, work: Callable[..., Any], *arguments: Any) -> Future[Any]:
        done: Future[Any] = Future()
        done.set_result(work(*arguments))
        return done


class PausedRun:
    """Work in a thread of its own, which stands still before each of its steps."""

    def __init__(self, work: Callable[[Step], Any]) -> None:
        """Start the work and let it come to its first step.

        Args:
            work: is given the function to call at each step.
        """
        self._arrivals: queue.Queue[str | None] = queue.Queue()
        self._permits: queue.Queue[None] = queue.Queue()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), daemon=True)
        self._thread.start()
        self.at = self._arrivals.get(timeout=_DEADLINE_SECONDS)

    def _run(self, work: Callable[[Step], Any]) -> None:
        try:
            work(self._stand)
        except BaseException as error:  # noqa: BLE001 - it is raised where the work is finished
            self._error = error
        self._arrivals.put(None)

    def _stand(self, step: str) -> None:
        if step.startswith("before"):
            self._arrivals.put(step)
            self._permits.get(timeout=_DEADLINE_SECONDS)

    def advance(self, until: Callable[[str], bool] | int = 1) -> bool:
        """Go some steps, or up to a step that `until` picks; tell whether there are more."""
        gone = 0
        while self.at is not None:
            if until(self.at) if callable(until) else gone == until:
                return True
            gone += 1
            self._permits.put(None)
            self.at = self._arrivals.get(timeout=_DEADLINE_SECONDS)
        return False

    def finish(self) -> None:
        """Go to the end; raise what the work raised."""
        self.advance(lambda _: False)
        self._thread.join(_DEADLINE_SECONDS)
        if self._error:
            raise self._error
