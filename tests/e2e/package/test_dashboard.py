"""The dashboard, as compiled by `sls package`: CloudWatch takes it, and it shows what there is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from jsonschema import validate

from local.cloudwatch.widgets import widgets

if TYPE_CHECKING:
    from tests.e2e.package.packaged import Stack

pytestmark = pytest.mark.e2e

COLUMNS = 24
TEXT = {"type": "string", "minLength": 1}
# The parts of CloudWatch's "Dashboard body structure and syntax" that are used here.
WIDGET = {
    "type": "object",
    "required": ["type", "x", "y", "width", "height", "properties"],
    "properties": {
        "type": {"enum": ["metric", "alarm"]},
        "x": {"type": "integer", "minimum": 0, "maximum": COLUMNS - 1},
        "y": {"type": "integer", "minimum": 0},
        "width": {"type": "integer", "minimum": 1, "maximum": COLUMNS},
        "height": {"type": "integer", "minimum": 1, "maximum": 1000},
    },
    "additionalProperties": True,
    "if": {"properties": {"type": {"const": "alarm"}}},
    "then": {
        "properties": {
            "properties": {
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
        }
    },
    "else": {
        "properties": {
            "properties": {
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
                            "anyOf": [
                                {"type": "array", "minItems": 2, "items": TEXT},
                                {
                                    "type": "array",
                                    "minItems": 1,
                                    "maxItems": 1,
                                    "items": {
                                        "type": "object",
                                        "required": ["expression"],
                                        "properties": {"id": TEXT, "expression": TEXT},
                                        "additionalProperties": False,
                                    },
                                },
                            ]
                        },
                    },
                },
                "additionalProperties": False,
            }
        }
    },
}


def of_type(stack: Stack, kind: str) -> list[dict[str, Any]]:
    return [each["properties"] for each in widgets(stack.resources) if each["type"] == kind]


def test_cloudwatch_takes_the_widgets(prod: Stack):
    for widget in widgets(prod.resources):
        validate(widget, WIDGET)
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
    alarms = [
        *prod.of_type("AWS::CloudWatch::CompositeAlarm").values(),
        *prod.of_type("AWS::CloudWatch::Alarm").values(),
    ]
    never_on = "totesys-ingestion-prod-started"
    assert sorted([*names, never_on]) == sorted(alarm["AlarmName"] for alarm in alarms)
    assert names[0] == "totesys-ingestion-prod"


def test_references_are_to_resources(prod: Stack):
    text = prod.properties("Dashboard")["DashboardBody"]["Fn::Sub"]
    for name in ("IngestLambdaFunction", "IngestionStateMachine"):
        assert f"${{{name}}}" in text
        assert name in prod.resources
    assert "sls:" not in text
    assert "self:" not in text
