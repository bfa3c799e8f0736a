"""`make status STAGE=prod`: how each table of a deployed stage stands."""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from local.aws.stand_in import REGION
from shared.errors import PipelineError
from tools.standing import StageStanding, Standing, stage_settings, stage_standing

if TYPE_CHECKING:
    from collections.abc import Sequence

UNKNOWN = "-"
_HEADINGS = (
    *("table", "in source", "watermark", "age", "today"),
    *("held back", "changes", "rows", "last batch"),
)
_UNITS = ((86_400, "d"), (3600, "h"), (60, "min"), (1, "s"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print how the tables stand."""
    parser = argparse.ArgumentParser(prog="python -m tools.status", description=__doc__)
    parser.add_argument("--stage", default="prod", help="which one (prod)")
    parser.add_argument("--region", default=REGION, help=f"where it is ({REGION})")
    parser.add_argument("--json", action="store_true", help="for machines")
    options = parser.parse_args(arguments)
    os.environ["AWS_DEFAULT_REGION"] = options.region
    function_name, now = f"totesys-ingestion-{options.stage}-ingest", datetime.now(UTC)
    try:
        settings = stage_settings(function_name)
        stage = stage_standing(function_name, settings, now)
    except PipelineError as error:
        sys.exit(str(error))
    if options.json:
        print(as_json(stage))
    else:
        print(f"Stage {options.stage}, s3://{settings.bucket_name}, {now:%Y-%m-%d %H:%M:%S} UTC\n")
        print(as_text(stage))
    return 0


def as_json(stage: StageStanding) -> str:
    """Return an object with the `tables` by name, and the `notes`."""
    tables = {each.table: asdict(each) for each in stage.tables}
    return json.dumps({"tables": tables, "notes": stage.notes}, indent=1)


def as_text(stage: StageStanding) -> str:
    """Return a table to read, and the notes below it."""
    rows = [_HEADINGS, *(_cells(each) for each in stage.tables)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(map(_aligned, row, widths, range(len(row)))).rstrip() for row in rows]
    return "\n".join([*lines, *(f"\n{note}" for note in stage.notes)])


def _cells(standing: Standing) -> tuple[str, ...]:
    return (
        standing.table,
        _number(standing.highest_id),
        _number(standing.watermark),
        duration(standing.age_seconds),
        _number(standing.rows_today),
        _number(standing.held_back_rows),
        _number(standing.changes),
        _number(standing.last_rows),
        standing.last_key or UNKNOWN,
    )


def duration(seconds: int | None) -> str:
    """Return a time in the largest unit that it fills: `3 min`."""
    if seconds is None:
        return UNKNOWN
    size, unit = next((each for each in _UNITS if seconds >= each[0]), _UNITS[-1])
    return f"{seconds // size} {unit}"


def _number(value: int | None) -> str:
    return UNKNOWN if value is None else f"{value:,}"


def _aligned(cell: str, width: int, column: int) -> str:
    """Align names left and numbers right."""
    return cell.ljust(width) if column in {0, len(_HEADINGS) - 1} else cell.rjust(width)


if __name__ == "__main__":
    sys.exit(main())
