"""`make local`: a stage that stays up and ticks until it is stopped, to try things on."""

from __future__ import annotations

import argparse
import itertools
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from local import REPOSITORY, totesys
from local.aws.execution import execute
from local.aws.schedule import scheduled
from local.aws.stand_in import PROXY_VARIABLES
from local.cloudwatch.live import LiveAlarms
from local.console import heading, interruptible, timed
from local.news import news
from local.stage import DATABASE, LocalStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.aws.schedule import Target

MINUTE = 60.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or SIGTERM."""
    parser = argparse.ArgumentParser(prog="python -m local.serve", description=__doc__)
    parser.add_argument("--interval", type=float, default=600, help="seconds between ticks (600)")
    parser.add_argument("--events", type=int, default=2000, help="business events at first (2000)")
    parser.add_argument("--new-events", type=int, default=0, help="new ones before each tick (0)")
    options = parser.parse_args(arguments)
    interruptible()
    heading("A stage on this machine: it contacts no account, and leaves nothing behind")
    try:
        with LocalStage(options.events, timed) as stage:
            explain(stage)
            _tick_for_ever(stage, options.interval, options.new_events)
    except KeyboardInterrupt:
        print("\nStopped. The stage is removed.")
    except RuntimeError as error:
        sys.exit(f"\n{error}")
    return 0


def explain(stage: LocalStage) -> None:
    """Print how to use the stage: lines to paste, which need nothing but what is installed."""
    heading("The stage is up. To use it, paste this into another shell:")
    print(f"cd {REPOSITORY} && . {Path(sys.prefix) / 'bin' / 'activate'}")
    print("unset AWS_PROFILE", *PROXY_VARIABLES)
    for name, value in stage.aws.environ().items():
        print(f"export {name}={value}")
    heading("and then, for instance:")
    for command, what in _commands(stage):
        print(f"{command:46} # {what}")
    heading(f"To stop it: Ctrl-C, or, if it runs in the background: kill {os.getpid()}")


def _commands(stage: LocalStage) -> list[tuple[str, str]]:
    psql = f"{stage.server.binary('psql')} -h {stage.server.host} -U postgres {DATABASE}"
    return [
        ("python -m local.show", "what has landed of each table"),
        ("python -m local.show sales_order", "the keys of a table's objects"),
        ("python -m local.show sales_order/latest.json", "an object"),
        ("make status STAGE=local", "watermarks beside what the source has"),
        ("make query STAGE=local SQL='FROM currency'", "what has landed, with SQL"),
        ("make ingest STAGE=local", "call the deployed code"),
        ("npx sls invoke local -f ingest --stage local", "run the working tree's code"),
        ("npx sls logs -f ingest --stage local", "the log of the deployed code"),
        ("npx sls deploy --stage local", "deploy a change onto this stage"),
        (psql, "Totesys, to write to"),
    ]


def _tick_for_ever(stage: LocalStage, interval: float, new_events: int) -> None:
    targets = scheduled(stage.aws.client("events"))
    alarms, functions = LiveAlarms(stage), ScheduledFunctions(stage)
    heading(f"Ticks, one every {interval:g} s; alarms fire and clear as they would on AWS:")
    if not targets:
        print("  none: the deployed schedule is not enabled")
    for number in itertools.count(1):
        due = time.monotonic() + interval
        totesys.add_events(stage.database, new_events, seed=number)
        for target in targets:
            tick(stage, target, alarms)
        while (left := due - time.monotonic()) > 0:
            time.sleep(min(left, MINUTE))
            _say(*alarms.until_now(), *functions.call_due(datetime.now(UTC), alarms))


class ScheduledFunctions:
    """The functions that have a schedule of their own, such as the nightly reconciliation."""

    def __init__(self, stage: LocalStage) -> None:
        """Find out when each is due."""
        now = datetime.now(UTC)
        targets = scheduled(stage.aws.client("events"), "lambda")
        self._due = {target: target.next_time(now) for target in targets}
        self._stage = stage

    def call_due(self, now: datetime, alarms: LiveAlarms) -> list[str]:
        """Call those that are due; return what came of it, in lines."""
        due = [target for target, at in self._due.items() if at <= now]
        self._due |= {target: target.next_time(now) for target in due}
        return [line for target in due for line in self._call(target, alarms)]

    def _call(self, target: Target, alarms: LiveAlarms) -> list[str]:
        name = target.arn.rpartition(":")[2]
        began = datetime.now(UTC)
        answer = self._stage.aws.client("lambda").invoke(FunctionName=name, Payload=target.text)
        what = "failed" if "FunctionError" in answer else "succeeded"
        said = f"{name} {what}: {target.schedule}"
        if name != self._stage.reconcile_name:
            return [said]
        return [said, *alarms.take_night(self._stage.reconcile_log.lines(since=began))]


def tick(stage: LocalStage, target: Target, alarms: LiveAlarms) -> None:
    """Start what the schedule starts, and print what came of it."""
    began = datetime.now(UTC)
    execution = execute(stage.aws.client("stepfunctions"), target.arn, target.text)
    lines = stage.log.lines(since=began)
    failure = [f"{execution.error}: {execution.cause}"] if execution.error else []
    what = "; ".join([*failure, *(news(lines) or ["nothing new"] * (not failure))])
    _say(f"{execution.status} in {execution.seconds:.1f} s: {what}", *alarms.take(lines, execution))


def _say(*texts: str) -> None:
    for text in texts:
        print(f"  {datetime.now(UTC):%H:%M:%S} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
