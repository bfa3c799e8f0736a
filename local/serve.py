"""`make local`: a stage that stays up and ticks until Ctrl-C, to try things on."""

from __future__ import annotations

import argparse
import itertools
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from local import REPOSITORY, totesys
from local.aws.execution import execute
from local.aws.schedule import scheduled
from local.aws.stand_in import PROXY_VARIABLES
from local.console import heading, interruptible, timed
from local.stage import DATABASE, LocalStage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from local.aws.execution import Execution
    from local.aws.schedule import Target


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m local.serve", description=__doc__)
    parser.add_argument("--interval", type=float, default=600, help="seconds between ticks (600)")
    parser.add_argument("--events", type=int, default=2000, help="business events at first (2000)")
    parser.add_argument("--new-events", type=int, default=0, help="new ones before a tick (0)")
    options = parser.parse_args(arguments)
    interruptible()
    heading("A stage on this machine: nothing leaves it, and nothing is left of it at the end")
    try:
        with LocalStage(options.events, timed) as stage:
            _explain(stage)
            _tick_for_ever(stage, options.interval, options.new_events)
    except KeyboardInterrupt:
        print("\nStopped. The stage is gone.")
    except RuntimeError as error:
        sys.exit(f"\n{error}")
    return 0


def _explain(stage: LocalStage) -> None:
    bucket = stage.landed.bucket_name
    heading("The stage is up. To use it, paste this into another shell:")
    print(f"cd {REPOSITORY} && . {Path(sys.prefix) / 'bin' / 'activate'}")
    print("unset AWS_PROFILE", *PROXY_VARIABLES)
    for name, value in stage.aws.environ().items():
        print(f"export {name}={value}")
    heading("and then, for instance:")
    print("npx sls invoke local -f ingest --stage local")
    print(f"aws s3 ls s3://{bucket}/sales_order/")
    print(f"aws s3 cp s3://{bucket}/sales_order/latest.json -")
    print(f"{stage.server.binary('psql')} -h {stage.server.host} -U postgres {DATABASE}")


def _tick_for_ever(stage: LocalStage, interval: float, new_events: int) -> None:
    targets = scheduled(stage.aws.client("events"))
    heading(f"Ticks, one every {interval:g} s until Ctrl-C:")
    if not targets:
        print("  none: the deployed schedule is not enabled")
    for tick in itertools.count(1):
        due = time.monotonic() + interval
        totesys.add_events(stage.database, new_events, seed=tick)
        for target in targets:
            _tick(stage, target)
        time.sleep(max(0, due - time.monotonic()))


def _tick(stage: LocalStage, target: Target) -> None:
    """Start what the schedule starts, and print how it ended."""
    print(f"  {datetime.now(UTC):%H:%M:%S}", end=" ", flush=True)
    client = stage.aws.client("stepfunctions")
    execution = execute(client, target.state_machine_arn, target.text)
    print(f"{execution.status} in {execution.seconds:.1f} s: {_outcome(execution)}", flush=True)


def _outcome(execution: Execution) -> str:
    if execution.status != "SUCCEEDED":
        return f"{execution.error}: {execution.cause}"
    tables = {name: done["rows"] for name, done in execution.output["tables"].items()}
    news = ", ".join(f"{name} {rows:,}" for name, rows in tables.items() if rows)
    return news or "nothing new"


if __name__ == "__main__":
    sys.exit(main())
