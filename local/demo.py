"""`make demo`: run the whole service on this machine, and print what it did."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from local import REPOSITORY, totesys
from local.comparison import compare
from local.console import heading, interruptible, log_line, print_table, table, timed
from local.stage import STAGE, LocalStage

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from local.aws.execution import Execution
    from local.comparison import Comparison

NEW_EVENTS = 10
SHOWN_TABLE = "sales_order"
SHOWN_LINES = 3
QUERY = """\
SELECT currency_code, count(*) AS orders, sum(units_sold * unit_price) AS amount
FROM sales_order JOIN currency USING (currency_id)
GROUP BY currency_code ORDER BY currency_code"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo; 0 if everything landed that should have."""
    parser = argparse.ArgumentParser(prog="python -m local.demo", description=__doc__)
    parser.add_argument("--events", type=int, default=2000, help="business events at first (2000)")
    events = parser.parse_args(arguments).events
    interruptible()
    started = time.monotonic()
    heading("A stage on this machine: it contacts no account, and leaves nothing behind")
    try:
        with LocalStage(events, timed) as stage:
            faults = play(stage)
    except KeyboardInterrupt:
        sys.exit("\nStopped. The stage is removed.")
    except RuntimeError as error:
        sys.exit(f"\n{error}")
    heading("\n".join(faults) or "Every row of Totesys has landed, exactly once.")
    print(f"It took {time.monotonic() - started:.0f} s. The stage is removed.")
    return 1 if faults else 0


def play(stage: LocalStage) -> list[str]:
    """Run the state machine twice with new orders in between; end where something goes wrong.

    Returns:
        What went wrong.
    """
    heading("First run of the state machine: everything is new")
    if faults := _run(stage):
        return faults
    first = stage.landed.latest(SHOWN_TABLE)
    heading("New orders in Totesys, and a second run")
    with timed(f"{NEW_EVENTS} transactions, each an order, its transaction and its payment"):
        totesys.add_events(stage.database, NEW_EVENTS)
    if faults := _run(stage):
        return faults
    heading(f"{SHOWN_TABLE}/latest.json after the first run and after the second")
    print(f"  {json.dumps(first)}\n  {json.dumps(stage.landed.latest(SHOWN_TABLE))}")
    _show_lines(stage)
    return _query(stage)


def _run(stage: LocalStage) -> list[str]:
    logged = len(stage.log.lines())
    with timed("State machine"):
        execution = stage.run()
    comparisons = compare(stage.database, stage.landed)
    print()
    _show_tables(stage, comparisons)
    heading(f"Log of {stage.function_name}")
    for line in _readable(stage.log.lines()[logged:]):
        print(f"  {line}")
    return [*_execution_faults(execution), *_landing_faults(comparisons)]


def _show_tables(stage: LocalStage, comparisons: list[Comparison]) -> None:
    rows = [
        (
            each.table,
            f"{len(each.source_ids):,}",
            f"{len(each.landed_ids):,}",
            (stage.landed.keys(each.table) or ["none"])[-1],
        )
        for each in comparisons
    ]
    print_table(table(("table", "in Totesys", "landed", "newest object"), rows, (0, 3)))


def _readable(lines: list[str]) -> Iterator[str]:
    """Yield log lines to read, without metrics; Lambda's REPORT has the times and the memory."""
    for line in lines:
        record = json.loads(line) if line.startswith("{") else {}
        if "level" in record:
            yield log_line(record)
        elif line.startswith("REPORT"):
            yield "         REPORT " + ", ".join(line.split("\t")[1:])
        elif not record and not line.startswith(("START ", "END ")):
            yield line


def _show_lines(stage: LocalStage) -> None:
    key = stage.landed.keys(SHOWN_TABLE)[-1]
    heading(f"Landed lines, the first of s3://{stage.landed.bucket_name}/{key}")
    for line in stage.landed.read(key).decode().splitlines()[:SHOWN_LINES]:
        print(f"  {line}")


def _query(stage: LocalStage) -> list[str]:
    heading(f'make query STAGE={STAGE} SQL="..."')
    print(f"{QUERY}\n")
    command = [sys.executable, "-m", "tools.query", "--stage", STAGE, QUERY]
    environ = stage.aws.subprocess_environ()
    done = subprocess.run(
        command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, check=False
    )
    print(done.stdout, end="")
    return [f"The query failed: {done.stderr}"] if done.returncode else []


def _execution_faults(execution: Execution) -> list[str]:
    if execution.status == "SUCCEEDED":
        return []
    return [f"The execution is {execution.status}: {execution.error}: {execution.cause}"]


def _landing_faults(comparisons: list[Comparison]) -> list[str]:
    return [
        f"{each.table}: {len(each.source_ids)} rows in Totesys, {len(each.landed_ids)} landed; "
        "the ids or their order differ"
        for each in comparisons
        if not each.equal
    ]


if __name__ == "__main__":
    sys.exit(main())
