"""The dashboard, as compiled by `sls package`: CloudWatch takes it, and it shows what there is."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import validate

from local.cloudwatch.insights import parse
from local.cloudwatch.widgets import widgets

if TYPE_CHECKING:
    from tests.e2e.package.packaged import Stack

pytestmark = pytest.mark.e2e

COLUMNS = 24
TEXT = {"type": "string", "minLength": 1}
# The parts of CloudWatch's "Dashboard body structure and syntax" that are used here:
# https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch-Dashboard-Body-Structure.html
ALARM = {
    "required": ["alarms"],
    "properties": {
        "title": TEXT,
        "alarms": {
            "type": "array",
            "minItems": 1,
            "maxItems": 100,
            "items": {"type": "string", "pattern": "^arn:[^:]+:cloudwatch:.+:alarm:"},
        },
    },
    "additionalProperties": False,
}
METRIC = {
    "required": ["metrics", "region", "view", "stacked", "stat", "period", "title"],
    "properties": {
        "title": TEXT,
        "region": TEXT,
        "view": {"const": "timeSeries"},
        "stacked": {"type": "boolean"},
        "stat": {"enum": ["Sum", "Maximum"]},
        "period": {"type": "integer", "multipleOf": 60},
        "metrics": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "array",
                "minItems": 2,
                "items": {"anyOf": [TEXT, {"type": "object", "properties": {"label": TEXT}}]},
            },
        },
    },
    "additionalProperties": False,
}
LOG = {
    "required": ["query", "region", "view", "title"],
    "properties": {
        "title": TEXT,
        "region": TEXT,
        "view": {"enum": ["timeSeries", "table"]},
        "query": {"type": "string", "pattern": "^SOURCE '"},
    },
    "additionalProperties": False,
}
PROPERTIES = {"alarm": ALARM, "metric": METRIC, "log": LOG}
WIDGET = {
    "type": "object",
    "required": ["type", "x", "y", "width", "height", "properties"],
    "properties": {
        "type": {"enum": [*PROPERTIES]},
        "x": {"type": "integer", "minimum": 0, "maximum": COLUMNS - 1},
        "y": {"type": "integer", "minimum": 0},
        "width": {"type": "integer", "minimum": 1, "maximum": COLUMNS},
        "height": {"type": "integer", "minimum": 1, "maximum": 1000},
        "properties": {"type": "object"},
    },
    "additionalProperties": False,
}


def of_type(stack: Stack, kind: str) -> list[dict[str, Any]]:
    return [each["properties"] for each in widgets(stack.resources) if each["type"] == kind]


def test_cloudwatch_takes_the_widgets(prod: Stack):
    for widget in widgets(prod.resources):
        validate(widget, WIDGET)
        validate(widget["properties"], PROPERTIES[widget["type"]])
        assert widget["x"] + widget["width"] <= COLUMNS


def test_no_widget_covers_another(prod: Stack):
    cells = [
        (x, y)
        for widget in widgets(prod.resources)
        for x in range(widget["x"], widget["x"] + widget["width"])
        for y in range(widget["y"], widget["y"] + widget["height"])
    ]
    assert len(cells) == len(set(cells))


def test_every_alarm_is_shown(prod: Stack):
    (shown,) = of_type(prod, "alarm")
    names = [arn.rpartition(":")[2] for arn in shown["alarms"]]
    alarms = prod.of_type("AWS::CloudWatch::Alarm").values()
    assert sorted(names) == sorted(alarm["AlarmName"] for alarm in alarms)


def test_every_query_is_simulated_and_reads_a_log_group(prod: Stack):
    groups = {f"/aws/lambda/{name}" for name in prod.functions}
    for each in of_type(prod, "log"):
        assert {*parse(each["query"]).groups} <= groups


def test_references_are_to_resources(prod: Stack):
    text = prod.properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    names = set(re.findall(r"\$\{(\w+)\}", text))
    assert names >= {"IngestLambdaFunction", "IngestionStateMachine"}
    assert names <= {*prod.resources}
    assert "sls:" not in text
    assert "self:" not in text
