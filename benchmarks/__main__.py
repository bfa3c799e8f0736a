"""`make bench`: every figure in one table, the chart of README, and what cost is computed from."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml

from benchmarks import cost, million, ticks
from benchmarks.cost import RESULTS
from benchmarks.stage import show
from local.svg import Panel, draw

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "docs" / "benchmarks.svg"
PACKAGES = ("pandas", "numpy", "pg8000", "boto3", "aws-lambda-powertools")


def chart(found: dict[str, Any]) -> str:
    """Return the chart: a load against others, and the idle tick by the number of tables."""
    fewer, tables = found["million"]["fewer"], found["ticks"]["many_tables"]
    names = {"psql": "psql, JSON", "ours": "this", "dlt": "dlt", "literal": "by the words"}
    ways = [way for way in names if way in fewer]
    loads = {names[way]: [(place + 0.5, fewer[way]["seconds"])] for place, way in enumerate(ways)}
    idle = [(float(number), took) for number, took in tables.items()]
    return draw(
        [
            Panel(
                "Seconds for 100,000 rows",
                loads,
                len(ways),
                {place + 0.5: names[way] for place, way in enumerate(ways)},
                "bar",
            ),
            Panel(
                "Milliseconds of an idle tick, by tables",
                {"idle tick": idle},
                max(number for number, _ in idle),
                {number: f"{number:.0f}" for number, _ in idle},
            ),
        ]
    )


def main() -> None:
    """Measure, print, and write."""
    serverless = yaml.safe_load((ROOT / "serverless.yml").read_text())
    memory = serverless["params"]["default"]["memoryMegabytes"]
    found = {"ticks": ticks.measure(), "million": million.measure()}
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    found = json.loads(RESULTS.read_text())
    print(f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES))
    rows = [
        *ticks.rows(found["ticks"]),
        *million.rows(found["million"]),
        *cost.rows(found, memory),
    ]
    show(rows)
    CHART.write_text(chart(found))


if __name__ == "__main__":
    main()
