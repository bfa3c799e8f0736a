"""The dashboard shows what the stage really has: its metrics, its log groups and their fields."""

from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from local import totesys
from local.aws.function_log import calls
from local.charts import to_svg
from local.cloudwatch.alarms import Alarms
from local.cloudwatch.dashboard import INSERT_BAD_ADDRESS, picture
from local.cloudwatch.insights import BIN, TIMESTAMP, parse
from local.cloudwatch.metrics import metric_key
from local.cloudwatch.simulation import Simulation, record
from local.cloudwatch.widgets import shown, widgets
from shared.tables import TABLES

pytestmark = pytest.mark.e2e

TICK = 600
# AWS's own: https://docs.aws.amazon.com/lambda/latest/dg/monitoring-metrics-types.html,
# https://docs.aws.amazon.com/step-functions/latest/dg/procedure-cw-metrics.html and
# https://docs.aws.amazon.com/eventbridge/latest/userguide/eb-monitoring.html
OF_AWS = {
    ("AWS/Lambda", "FunctionName"): {"Duration", "Errors", "Throttles", "AsyncEventsDropped"},
    ("AWS/States", "StateMachineArn"): {"ExecutionsFailed", "ExecutionsTimedOut"},
    ("AWS/Events", "RuleName"): {"FailedInvocations"},
}


@pytest.fixture(scope="module")
def simulation(drilled, resources):
    """Three runs, of which the second lands rows, one of them bad; a failure; a reconciliation."""
    played = Simulation(resources, Alarms(resources))
    for events in (0, 8, 0):
        totesys.add_events(drilled.database, events)
        if events:
            drilled.database.run(INSERT_BAD_ADDRESS)
        played.play(record(drilled))
        played.advance(TICK)
    played.play(record(drilled, {"tables": ["no such table"]}))
    drilled.reconcile()
    played.play_night(list(calls(drilled.reconcile_log.lines()))[-1:])
    return played


def of_type(simulation, kind):
    return [widget for widget in widgets(simulation.resources) if widget["type"] == kind]


def queries(simulation):
    """The query of each log widget, by title."""
    return {
        each["properties"]["title"]: parse(each["properties"]["query"])
        for each in of_type(simulation, "log")
    }


def test_every_metric_exists(simulation):
    counted = {
        (made["MetricNamespace"], made["MetricName"])
        for each in simulation.resources.values()
        if each["Type"] == "AWS::Logs::MetricFilter"
        for made in each["Properties"]["MetricTransformations"]
    }
    metrics = [each.metric for widget in of_type(simulation, "metric") for each in shown(widget)]
    for metric in metrics:
        namespace, name, dimensions = metric_key(metric)
        if namespace == "Totesys":
            assert (namespace, name) in counted
            assert not dimensions
        else:
            [(dimension, resource)] = dimensions
            assert name in OF_AWS[namespace, dimension]
            assert resource in simulation.resources
    shown_here = {(each["Namespace"], each["MetricName"]) for each in metrics}
    assert counted <= shown_here


def test_every_query_reads_a_log_group_and_fields_that_are_logged(simulation):
    for query in queries(simulation).values():
        for group in query.groups:
            function = simulation.resources[group.removeprefix("/aws/lambda/")]
            assert function["Type"] == "AWS::Lambda::Function"
        logged = [
            json.loads(line)
            for _, group, line in simulation.lines
            if group in query.groups and line.startswith("{")
        ]
        assert query.used - {TIMESTAMP} <= {name for line in logged for name in line}


def test_a_time_series_is_grouped_by_time_only_and_a_table_is_not(simulation):
    for widget in of_type(simulation, "log"):
        columns = parse(widget["properties"]["query"]).columns
        assert (BIN in columns) == (widget["properties"]["view"] == "timeSeries")


def test_what_landed_is_shown(simulation):
    landed = queries(simulation)
    by_table = {row["table"]: row for row in landed["Table by table"].run(simulation.lines)}
    assert sorted(by_table) == sorted(TABLES)
    rows = sum(row["landed"] for row in by_table.values())
    assert rows >= 24
    assert sum(row["landed"] for row in landed["Rows landed"].run(simulation.lines)) == rows
    batches = landed["Newest batches"].run(simulation.lines)
    assert sum(row["rows"] for row in batches) == rows
    assert all(row["key"].split("/")[0] in TABLES for row in batches)
    assert by_table["payment"]["watermark"] >= by_table["payment"]["landed"] > 0


def test_failures_are_shown_with_their_reasons(simulation):
    failed, *bad = queries(simulation)["Newest errors"].run(simulation.lines)
    assert (failed["service"], failed["message"]) == ("ingestion", "The run failed")
    assert failed["reason"].startswith("Unknown tables")
    assert {(row["table"], row["column"]) for row in bad} >= {("address", "created_at")}


def test_the_picture_shows_every_widget(simulation):
    svg = to_svg(picture(simulation, 4 * TICK))
    texts = {each.text for each in ElementTree.fromstring(svg).iter()}
    assert {each["properties"]["title"] for each in widgets(simulation.resources)} <= texts
    assert {"payment", "rows-held-back", "held_back", "reconcile"} <= texts
    assert {"ExecutionsFailed", "ExecutionsFailed, loads"} <= texts
