"""`make dashboard`: draw docs/dashboard.svg from a simulated day of a local stage."""

from __future__ import annotations

import argparse
import math
import re
import sys
from contextlib import closing
from dataclasses import replace
from datetime import datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from local import REPOSITORY, totesys
from local.aws.function_log import calls
from local.charts import (
    draw_bands,
    draw_lines,
    draw_stacks,
    draw_table,
    new_figure,
    set_title,
    to_svg,
)
from local.cloudwatch.alarms import Alarms
from local.cloudwatch.insights import BIN, BIN_SECONDS, TIMESTAMP, parse
from local.cloudwatch.simulation import Simulation, record
from local.cloudwatch.widgets import shown, widgets
from local.console import heading, interruptible, timed
from local.stage import DATABASE, STACK, STAGE, LocalStage
from local.totesys.business_events import insert_events, make_event, read_references

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from local.charts import Points
    from local.cloudwatch.simulation import Recording

TICK, HOUR = 600, 3600
DAY = 24 * HOUR
PREFIX = STACK  # every alarm's name begins like the stack's
COLUMNS, CHARACTERS = 24, 156  # the width of the dashboard, in its grid and in letters of a table
LINE_INCHES = 0.14
HOST = "totesys.example.com"  # the local one is a folder with a random name
OFFICE_HOURS = range(8 * HOUR, 18 * HOUR)
# The faults of this day, and when they happen.
BAD_VALUES_AT = 10 * HOUR
PASSWORD_WRONG = range(12 * HOUR, 12 * HOUR + 3 * TICK)
WRITER_OPEN = range(14 * HOUR + 2 * TICK, 16 * HOUR)
RECONCILED_AT = 2 * HOUR + 15 * 60
INSERT_BAD_ADDRESS = """
INSERT INTO address (address_line_1, city, postal_code, country, phone, last_updated, created_at)
VALUES ('1 Long Lane', 'Leeds', '00123', 'England', '0113', now(), 'infinity')
"""
# It was measured by the real clock, which runs slower than the simulated one.
_AGE = re.compile(r'("watermark_age_seconds":)[1-9]\d*')


def main(arguments: Sequence[str] | None = None) -> int:
    """Simulate the day and write the picture."""
    parser = argparse.ArgumentParser(
        prog="python -m local.cloudwatch.dashboard", description=__doc__
    )
    parser.add_argument("--to", type=Path, default=REPOSITORY / "docs" / "dashboard.svg")
    path = parser.parse_args(arguments).to
    interruptible()
    heading("A simulated day of a stage on this machine")
    with LocalStage(300, timed) as stage:
        stage.run()
        with timed("144 ticks"):
            simulation = _day(stage)
        path.write_text(to_svg(picture(simulation)))
    print(f"Written: {path}")
    return 0


def picture(simulation: Simulation, seconds: int = DAY) -> Figure:
    """Draw the dashboard's widgets in the layout they have there, from the first second on."""
    shown_widgets = widgets(simulation.resources)
    rows = [list(row) for _, row in groupby(shown_widgets, itemgetter("y"))]
    figure, axes = new_figure([(len(row), _inches(row[0])) for row in rows])
    for each, widget in zip(axes, shown_widgets, strict=True):
        set_title(each, widget["properties"]["title"])
        if widget["properties"].get("view") == "table":
            _draw_table(each, widget, simulation)
        else:
            _draw(each, widget, simulation, seconds)
    return figure


def _inches(widget: Mapping[str, Any]) -> float:
    """Return a widget's height; CloudWatch shows alarms as tiles, here each is a row."""
    if widget["type"] == "alarm":
        return 0.6 + 0.17 * len(widget["properties"]["alarms"])
    if widget["properties"]["view"] == "table":
        return 0.4 + LINE_INCHES * _lines(widget)
    return 0.4 * int(widget["height"])


def _lines(widget: Mapping[str, Any]) -> int:
    """Return how many lines of a table CloudWatch shows before one has to scroll."""
    return round(1.75 * int(widget["height"]))


def _draw_table(axes: Axes, widget: Mapping[str, Any], simulation: Simulation) -> None:
    query = parse(widget["properties"]["query"])
    found = query.run(simulation.lines)
    rows = [[_cell(name, row[name]) for name in query.columns] for row in found]
    characters = CHARACTERS * int(widget["width"]) // COLUMNS
    draw_table(axes, query.columns, rows, characters, _lines(widget))


def _cell(column: str, value: Any) -> str:
    if column == TIMESTAMP:
        return f"{int(value) // HOUR:02}:{int(value) % HOUR // 60:02}"
    return "" if value is None else str(value)


def _draw(axes: Axes, widget: Mapping[str, Any], simulation: Simulation, seconds: int) -> None:
    properties = widget["properties"]
    if widget["type"] == "alarm":
        draw_bands(axes, _bands(properties["alarms"], simulation, seconds))
    elif widget["type"] == "log":
        draw_lines(axes, _counted(properties["query"], simulation, seconds))
    elif properties["stacked"]:
        draw_stacks(axes, _series(widget, simulation, seconds), 0.8 * properties["period"])
    else:
        lines = _series(widget, simulation, seconds)
        starts = range(0, seconds, properties["period"])
        draw_lines(axes, {label: _with_gaps(points, starts) for label, points in lines.items()})
    hours = range(0, seconds + 1, 4 * HOUR)
    axes.set_xticks(hours, [f"{hour // HOUR}:00" for hour in hours])
    axes.set_xlim(0, seconds)


def _series(widget: Mapping[str, Any], simulation: Simulation, seconds: int) -> dict[str, Points]:
    """Return the values of each metric that a widget shows, by label."""
    stat, period = widget["properties"]["stat"], widget["properties"]["period"]
    series: dict[str, Points] = {}
    for each in shown(widget):
        values = {
            start: simulation.metrics.statistic(each.metric, stat, start, start + period)
            for start in range(0, seconds, period)
        }
        label = each.label.removeprefix(f"{STAGE}-")
        series[label] = [(start, value) for start, value in values.items() if value is not None]
    return series


def _counted(text: str, simulation: Simulation, seconds: int) -> dict[str, Points]:
    """Return the series of a query that groups lines by time."""
    query = parse(text)
    if query.columns[0] != BIN:
        raise ValueError(f"{text!r} is no time series")
    found = query.run(simulation.lines)
    starts = range(0, seconds, BIN_SECONDS)
    return {
        name: _with_gaps([(row[BIN], row[name]) for row in found], starts)
        for name in query.columns[1:]
    }


def _with_gaps(points: Points, starts: Sequence[int]) -> Points:
    values = dict(points)
    return [(start, values.get(start, math.nan)) for start in starts]


def _bands(
    arns: Sequence[str], simulation: Simulation, seconds: int
) -> dict[str, list[tuple[float, float]]]:
    """Return when each alarm was in ALARM: since when, and for how long."""
    logical = {
        resource["Properties"]["AlarmName"]: name
        for name, resource in simulation.resources.items()
        if "AlarmName" in resource["Properties"]
    }
    names = [arn.rpartition(":")[2] for arn in arns]
    return {
        name.removeprefix(f"{PREFIX}-"): _in_alarm(logical[name], simulation, seconds)
        for name in names
    }


def _in_alarm(alarm: str, simulation: Simulation, seconds: int) -> list[tuple[float, float]]:
    changes = [change for change in simulation.alarms.changes if change.alarm == alarm]
    ends = [*(change.second for change in changes[1:]), seconds]
    return [
        (change.second, end - change.second)
        for change, end in zip(changes, ends, strict=bool(changes))
        if change.state == "ALARM"
    ]


def _day(stage: LocalStage) -> Simulation:
    """Run a tick in office hours; at night play one that found nothing."""
    resources = stage.resources()
    simulation = Simulation(resources, Alarms(resources))
    rng, idle, night = Random(1), record(stage), _night(stage)
    stage.set_variables(WRITER_WAIT_SECONDS="0")
    with closing(stage.server.connect(DATABASE)) as writer:
        for second in range(0, DAY, TICK):
            simulation.advance(10)
            if second == OFFICE_HOURS.stop:
                idle = record(stage)
            simulation.play(_tick(stage, writer, second, rng) or idle)
            simulation.advance(TICK // 2 - 10)
            if simulation.second == RECONCILED_AT:
                simulation.play_night(night)
            simulation.advance(TICK // 2)
    return simulation


def _night(stage: LocalStage) -> list[list[str]]:
    """Return the log lines of a reconciliation."""
    stage.reconcile()
    return list(calls(stage.reconcile_log.lines()))


def _tick(stage: LocalStage, writer: Any, second: int, rng: Random) -> Recording | None:
    """Do what happens before a tick; run it in office hours."""
    if second == WRITER_OPEN.start:
        writer.run("BEGIN")
        event = make_event(rng, read_references(writer), datetime(2026, 1, 5, 14, 20))
        insert_events(writer, [event])
    if second == WRITER_OPEN.stop:
        writer.run("COMMIT")
    if second == BAD_VALUES_AT:
        stage.database.run(INSERT_BAD_ADDRESS)
    if second in (PASSWORD_WRONG.start, PASSWORD_WRONG.stop):
        good = stage.server.secret(DATABASE)
        wrong = {**good, "password": "not it"}
        stage.set_secret(wrong if second == PASSWORD_WRONG.start else good)
        stage.next_call_is_cold()
    if second not in OFFICE_HOURS:
        return None
    totesys.add_events(stage.database, rng.choice((0, 0, 1, 2, 3, 5, 8)), seed=second)
    return _as_on_aws(record(stage), second, str(stage.server.secret(DATABASE)["host"]))


def _as_on_aws(recording: Recording, second: int, host: str) -> Recording:
    """Return the recording with the watermark's age by the simulated clock, and another host."""
    age = rf"\g<1>{second - WRITER_OPEN.start + TICK}"
    changed = [
        [_AGE.sub(age, line).replace(host, HOST) for line in lines] for lines in recording.calls
    ]
    return replace(recording, calls=changed)


if __name__ == "__main__":
    sys.exit(main())
