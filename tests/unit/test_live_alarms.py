"""The alarms of `make local` fire and clear while time passes."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from local.aws.execution import Execution
from local.cloudwatch.live import LiveAlarms

ALARM: dict[str, Any] = {
    "Type": "AWS::CloudWatch::Alarm",
    "Properties": {
        "AlarmName": "stack-executions-failed",
        "Namespace": "AWS/States",
        "MetricName": "ExecutionsFailed",
        "Dimensions": [{"Name": "StateMachineArn", "Value": {"Ref": "IngestionStateMachine"}}],
        "Statistic": "Sum",
        "Period": 300,
        "EvaluationPeriods": 1,
        "Threshold": 1,
        "ComparisonOperator": "GreaterThanOrEqualToThreshold",
        "TreatMissingData": "notBreaching",
    },
}
FUNCTION = {"Type": "AWS::Lambda::Function", "Properties": {"Timeout": 240}}
REPORT = "REPORT RequestId: 1\tDuration: 100.00 ms\tBilled Duration: 101 ms"
NO_DATA = ALARM | {"Properties": ALARM["Properties"] | {"TreatMissingData": "missing"}}


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def live(alarm):
    clock, resources = Clock(), {"Failed": alarm, "IngestLambdaFunction": FUNCTION}
    stage: Any = SimpleNamespace(stack="stack", resources=lambda: resources)
    return LiveAlarms(stage, clock), clock


def after(seconds, alarms, clock):
    clock.now += seconds
    return alarms.until_now()


def ended(status):
    return Execution(status, None, None, None, 1.0)


def test_an_alarm_fires_within_minutes_and_clears_later():
    alarms, clock = live(ALARM)
    assert after(59, alarms, clock) == []
    assert alarms.take([REPORT], ended("FAILED")) == []
    assert after(60, alarms, clock) == []
    assert after(60, alarms, clock) == ["alarm executions-failed fires"]
    assert after(60, alarms, clock) == []
    assert after(1200, alarms, clock) == ["alarm executions-failed clears"]


@pytest.mark.parametrize("status", ["SUCCEEDED", "TIMED_OUT", "ABORTED"])
def test_no_alarm_fires_for_what_it_does_not_watch(status):
    alarms, clock = live(ALARM)
    alarms.take([REPORT], ended(status))
    assert after(1200, alarms, clock) == []


def test_an_alarm_without_data_is_said_to_have_none():
    alarms, clock = live(NO_DATA)
    alarms.take([REPORT], ended("FAILED"))
    assert after(300, alarms, clock) == ["alarm executions-failed fires"]
    assert after(3600, alarms, clock) == ["alarm executions-failed has no data"]


def test_a_tick_tells_what_happened_since_the_last_look():
    alarms, clock = live(ALARM)
    alarms.take([REPORT], ended("FAILED"))
    clock.now += 180
    assert alarms.take([REPORT], ended("SUCCEEDED")) == ["alarm executions-failed fires"]


NIGHTS = ALARM | {
    "Properties": ALARM["Properties"]
    | {
        "Namespace": "AWS/Lambda",
        "MetricName": "Errors",
        "Dimensions": [{"Name": "FunctionName", "Value": {"Ref": "ReconcileLambdaFunction"}}],
    }
}


def test_a_night_fires_the_alarms_of_the_reconciliation():
    alarms, clock = live(NIGHTS)
    assert alarms.take_night([f"{REPORT}\tStatus: error"]) == []
    assert after(120, alarms, clock) == ["alarm executions-failed fires"]
    clock.now += 1200
    assert alarms.take_night([REPORT]) == ["alarm executions-failed clears"]
