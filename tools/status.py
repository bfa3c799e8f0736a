"""`make status STAGE=prod`: how each table of a deployed stage stands."""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import nullcontext
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError

from local.console import print_table, table, waiting
from services.ingestion.handler import Settings
from shared.errors import PipelineError
from tools.loads import load_command
from tools.stages import find_function, stage_options
from tools.standing import StageStatus, TableStatus, loads_standing, stage_standing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.loads import LoadStatus

UNKNOWN = "-"
_HEADINGS = (
    *("table", "in source", "watermark", "age", "today"),
    *("held back", "changes", "proof late", "rows", "last batch"),
)
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how the tables stand."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.status", description=__doc__, parents=[stage_options()]
    )
    options = parser.parse_args(arguments)
    os.environ["AWS_DEFAULT_REGION"] = options.region
    now = datetime.now(UTC)
    try:
        with nullcontext() if options.json else waiting(f"Reading the stage {options.stage}"):
            function = find_function(options.stage, options.region)
            settings = Settings.from_env(function.variables)
            stage = stage_standing(function.name, settings, now)
            stage.loads += loads_standing(function, stage.notes)
    except (PipelineError, BotoCoreError) as error:
        sys.exit(str(error))
    if options.json:
        print(as_json(stage))
    else:
        print(f"Stage {options.stage}, s3://{settings.bucket_name}, {now:%Y-%m-%d %H:%M:%S} UTC\n")
        print_table(table_lines(stage))
        for load in stage.loads:
            print(f"\n{load_line(load, options.stage, options.region)}")
        for note in stage.notes:
            print(f"\n{note}")
    return 0


def as_json(stage: StageStatus) -> str:
    """Return an object with the `tables` by name, the `loads` under way, and the `notes`."""
    tables = {each.table: asdict(each) for each in stage.tables}
    loads = [asdict(each) for each in stage.loads]
    return json.dumps({"tables": tables, "loads": loads, "notes": stage.notes}, indent=1)


def table_lines(stage: StageStatus) -> list[str]:
    """Return the lines of a table to read."""
    return table(_HEADINGS, [_cells(each) for each in stage.tables], (0, len(_HEADINGS) - 1))


def _cells(standing: TableStatus) -> tuple[str, ...]:
    days = standing.proof_days_behind
    return (
        standing.table,
        _number(standing.highest_id),
        _number(standing.watermark),
        duration(standing.age_seconds),
        _number(standing.rows_today),
        _number(standing.held_back_rows),
        _number(standing.changes),
        duration(None if days is None else days * 86_400),
        _number(standing.last_rows),
        standing.last_key or UNKNOWN,
    )


def load_line(load: LoadStatus, stage: str, region: str) -> str:
    """Return what is said of a load that is under way."""
    where = f"{load.done:,} of {load.batches:,} batches" if load.batches is not None else load.phase
    return (
        f"A load of {load.table} is under way: {where}; it began at {load.started_at}. "
        f"To follow it: {load_command(load.table, stage, region)}"
    )


def duration(seconds: int | None) -> str:
    """Return a time in the largest unit it fills, such as `3 min`."""
    if seconds is None:
        return UNKNOWN
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    return f"{seconds // size} {unit}"


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


if __name__ == "__main__":
    sys.exit(main())
