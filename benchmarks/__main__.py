"""`make bench`: every figure in one table, the charts, and what cost is computed from."""

from __future__ import annotations

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from benchmarks import ahead, cost, growth, loading, long_rows, nights, race, ticks, workers
from benchmarks.cost import RESULTS
from benchmarks.stage import show
from local.charts import draw_columns, draw_lines, new_figure, set_title, to_svg

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "docs" / "benchmarks.svg"
PACKAGES = ("pandas", "numpy", "pg8000", "boto3", "aws-lambda-powertools")


def chart(found: dict[str, Any]) -> Figure:
    """Draw the race, and the idle tick by the number of tables."""
    figure, axes = new_figure([(1, 2.6), (1, 2.2)])
    set_title(axes[0], "Seconds to write 1,000,000 rows as JSON lines")
    draw_columns(axes[0], race.columns(found["race"]))
    set_title(axes[1], "Milliseconds of an idle tick, by the number of tables")
    tables = found["ticks"]["many_tables"]
    draw_lines(axes[1], {"idle tick": [(float(number), took) for number, took in tables.items()]})
    axes[1].set_xticks([int(number) for number in tables])
    axes[1].set_xlim(left=0)
    return figure


def main() -> None:
    """Measure, print, and write."""
    serverless = yaml.safe_load((ROOT / "serverless.yml").read_text())
    memory = serverless["params"]["default"]["memoryMegabytes"]
    # The race first, for which the machine must be idle, and the nights before the ticks: from
    # these on, a stub answers every client in this process.
    found = {
        "race": race.measure(),
        "loading": workers.measure(),
        "read_ahead": ahead.measure(),
        "long_rows": long_rows.measure(),
        "growth": growth.measure(),
        "nights": nights.measure(),
        "ticks": ticks.measure(),
    }
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    found = json.loads(RESULTS.read_text())
    print(f"Python {platform.python_version()}", *(f"{name} {version(name)}" for name in PACKAGES))
    rows = [
        *ticks.rows(found["ticks"]),
        *nights.rows(found["nights"]),
        *ahead.rows(found["read_ahead"]),
        *long_rows.rows(found["long_rows"]),
        *growth.rows(found["growth"]),
        *workers.rows(found["loading"]),
        *cost.rows(found, memory),
        *loading.rows(found),
    ]
    show(rows)
    print(*race.table(found["race"]), *race.remarks(found["race"]), sep="\n")
    CHART.write_text(to_svg(chart(found)))
    loading.CHART.write_text(to_svg(loading.chart(found["loading"])))


if __name__ == "__main__":
    main()
