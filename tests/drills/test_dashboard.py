"""Every metric on the dashboard is one that the stage emits, and the picture is drawn of it."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from local import totesys
from local.charts import to_svg
from local.cloudwatch.alarms import Alarms
from local.cloudwatch.dashboard import picture
from local.cloudwatch.metrics import metric_key
from local.cloudwatch.simulation import Simulation, record
from local.cloudwatch.widgets import shown, widgets
from shared.tables import TABLES

pytestmark = pytest.mark.e2e

TICK = 600
# AWS's own, which a run without a fault has no values of.
OF_AWS = {"Throttles", "ExecutionsFailed", "ExecutionsTimedOut"}


@pytest.fixture(scope="module")
def simulation(drilled, resources):
    """Three runs, of which the second finds something."""
    played = Simulation(resources, Alarms(resources))
    for events in (0, 8, 0):
        totesys.add_events(drilled.database, events)
        played.play(record(drilled))
        played.advance(TICK)
    return played


def test_every_metric_is_one_that_is_emitted(simulation):
    metrics = [
        each.metric
        for widget in widgets(simulation.resources)
        if widget["type"] == "metric"
        for each in shown(widget, simulation.metrics)
    ]
    missing = [each for each in metrics if metric_key(each) not in simulation.metrics.names()]
    assert {each["MetricName"] for each in missing} <= OF_AWS
    assert {each["Namespace"] for each in missing} <= {"AWS/Lambda", "AWS/States"}


def test_rows_are_shown_by_table(simulation):
    [rows] = [
        list(shown(widget, simulation.metrics))
        for widget in widgets(simulation.resources)
        if "Rows landed" in widget["properties"]["title"]
    ]
    landed = {each.label for each in rows}
    assert {"payment", "transaction"} <= landed <= {*TABLES}
    assert all(each.metric["MetricName"] == "RowsIngested" for each in rows)


def test_the_picture_shows_every_widget(simulation):
    svg = to_svg(picture(simulation, 3 * TICK))
    texts = {each.text for each in ElementTree.fromstring(svg).iter()}
    assert {each["properties"]["title"] for each in widgets(simulation.resources)} <= texts
    assert {"payment", "rows-held-back", "ExecutionsFailed"} <= texts
