"""Who is told of what: log groups, metrics, alarms and the topic, as compiled by `sls package`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.package.packaged import REPOSITORY, SWITCHED, alarm_names, listed

if TYPE_CHECKING:
    from tests.e2e.package.packaged import Package

pytestmark = pytest.mark.e2e

CALL = (
    "from services.ingestion.handler import lambda_handler; lambda_handler({'no': 'event'}, None)"
)
OF_AWS = {"AWS/Lambda", "AWS/States", "AWS/Events"}


@pytest.fixture(scope="module")
def lines(prod: Package) -> list[dict[str, Any]]:
    """The JSON lines of a failed call, made in the environment that is deployed."""
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], **prod.environment},
        capture_output=True,
        text=True,
    )
    printed = (done.stdout + done.stderr).splitlines()
    return [json.loads(line) for line in printed if line.startswith("{")]


def metrics(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics an alarm looks at."""
    if "MetricName" in alarm:
        return [alarm]
    return [each["MetricStat"]["Metric"] for each in alarm["Metrics"] if "MetricStat" in each]


def dimensions(metric: dict[str, Any]) -> dict[str, Any]:
    return {each["Name"]: each["Value"] for each in metric.get("Dimensions", [])}


def test_logs_are_kept_for_a_while(prod: Package, switched: Package):
    for package, days in ((prod, 365), (switched, 14)):
        groups = package.of_type("AWS::Logs::LogGroup").values()
        assert [group["RetentionInDays"] for group in groups] == [days] * 3
    name = prod.properties("IngestLambdaFunction")["FunctionName"]
    assert prod.properties("IngestLogGroup")["LogGroupName"] == f"/aws/lambda/{name}"


def test_one_alarm_watches_all_others_and_sends_the_mail(prod: Package):
    composite = prod.properties("IngestionAlarm")
    assert composite["AlarmActions"] == composite["OKActions"] == [{"Ref": "AlarmTopic"}]
    assert composite.get("ActionsEnabled", True)
    watched = alarm_names(composite["AlarmRule"])
    assert sorted(watched) == sorted(prod.of_type("AWS::CloudWatch::Alarm"))


def test_single_alarms_say_why_and_send_nothing(prod: Package):
    for alarm in prod.of_type("AWS::CloudWatch::Alarm").values():
        assert 50 < len(alarm["AlarmDescription"]) < 1024
        assert not {"AlarmActions", "OKActions", "InsufficientDataActions"} & set(alarm)


def test_everything_that_can_go_wrong_is_watched(prod: Package):
    watched = {
        (metric["Namespace"], metric["MetricName"])
        for alarm in prod.of_type("AWS::CloudWatch::Alarm").values()
        for metric in metrics(alarm)
    }
    assert watched == {
        ("Totesys", "prod-ErrorLines"),
        ("Totesys", "Heartbeat"),
        ("Totesys", "ContractViolations"),
        ("Totesys", "MissingRows"),
        ("Totesys", "BrokenObjects"),
        ("Totesys", "WatermarkAgeSeconds"),
        ("AWS/States", "ExecutionsFailed"),
        ("AWS/States", "ExecutionsTimedOut"),
        ("AWS/States", "ExecutionsAborted"),
        ("AWS/Lambda", "Duration"),
        ("AWS/Lambda", "Errors"),  # of the reconcile
        ("AWS/Events", "FailedInvocations"),
    }


def test_alarms_watch_this_stack(prod: Package):
    rule = "IngestionStepFunctionsEventsRuleSchedule1"
    assert rule in prod.of_type("AWS::Events::Rule")
    subject = {
        "AWS/Lambda": {"FunctionName": {"Ref": "IngestLambdaFunction"}},
        "AWS/States": {"StateMachineArn": {"Ref": "IngestionStateMachine"}},
        "AWS/Events": {"RuleName": {"Ref": rule}},
    }
    alarms = prod.of_type("AWS::CloudWatch::Alarm")
    of_reconcile = alarms.pop("ReconcileFailedAlarm")
    assert dimensions(of_reconcile) == {"FunctionName": {"Ref": "ReconcileLambdaFunction"}}
    for alarm in alarms.values():
        for metric in metrics(alarm):
            if metric["Namespace"] in OF_AWS:
                assert dimensions(metric) == subject[metric["Namespace"]]


def test_one_bad_run_is_an_alarm_which_ends_by_itself(prod: Package):
    nightly = {"RowsMissingAlarm", "ObjectsBrokenAlarm", "ReconcileFailedAlarm"}
    for name, alarm in prod.of_type("AWS::CloudWatch::Alarm").items():
        if name not in {"NoHeartbeatAlarm", "StartedAlarm", "RowsHeldBackAlarm"}:
            if name in nightly:
                assert (alarm["Period"], alarm["EvaluationPeriods"]) == (24 * 3600, 1)
            else:
                assert alarm["DatapointsToAlarm"] == 1 < alarm["EvaluationPeriods"]
            assert alarm["TreatMissingData"] == "notBreaching"


def test_a_new_stage_is_not_one_that_stands_still(prod: Package):
    heartbeat, started = prod.properties("NoHeartbeatAlarm"), prod.properties("StartedAlarm")
    assert started["TreatMissingData"] == "ignore"
    for name in ("Namespace", "MetricName", "Dimensions", "Statistic", "Threshold"):
        assert started[name] == heartbeat[name]


def test_error_lines_are_counted(prod: Package, lines: list[dict[str, Any]]):
    assert [line for line in lines if line.get("level") == "ERROR"]
    error_filter = prod.properties("ErrorLinesFilter")
    assert error_filter["FilterPattern"] == '{ $.level = "ERROR" }'
    assert error_filter["LogGroupName"] == {"Ref": "IngestLogGroup"}
    (metric,) = error_filter["MetricTransformations"]
    alarm = prod.properties("IngestErrorsAlarm")
    assert (alarm["Namespace"], alarm["MetricName"]) == (
        metric["MetricNamespace"],
        metric["MetricName"],
    )
    assert dimensions(alarm) == {}
    assert alarm["Threshold"] == 1


def test_heartbeat_is_the_metric_that_a_call_emits(prod: Package, lines: list[dict[str, Any]]):
    (blob,) = [line for line in lines if "Heartbeat" in line]
    ((emitted,),) = [each["Dimensions"] for each in blob["_aws"]["CloudWatchMetrics"]]
    alarm = prod.properties("NoHeartbeatAlarm")
    assert dimensions(alarm) == {name: blob[name] for name in emitted}
    assert blob["_aws"]["CloudWatchMetrics"][0]["Namespace"] == alarm["Namespace"]
    assert blob["Heartbeat"] == [1]


def test_half_an_hour_without_heartbeat_is_an_alarm(prod: Package, switched: Package):
    alarm = prod.properties("NoHeartbeatAlarm")
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 30 * 60
    assert alarm["DatapointsToAlarm"] == alarm["EvaluationPeriods"] == 3
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert alarm["TreatMissingData"] == "breaching"
    assert switched.properties("NoHeartbeatAlarm")["TreatMissingData"] == "notBreaching"


def test_slow_is_eighty_percent_of_the_timeout(prod: Package, switched: Package):
    for package in (prod, switched):
        alarm = package.properties("FunctionSlowAlarm")
        (expression,) = [each["Expression"] for each in alarm["Metrics"] if "Expression" in each]
        milliseconds = 1000 * package.properties("IngestLambdaFunction")["Timeout"]
        percent = eval(expression, {"duration": 0.8 * milliseconds})
        assert percent == pytest.approx(alarm["Threshold"])


def test_alarms_may_publish_to_the_encrypted_topic(prod: Package):
    topic, key = prod.properties("AlarmTopic"), prod.properties("AlarmTopicKey")
    assert topic["KmsMasterKeyId"] == {"Ref": "AlarmTopicKey"}
    assert key["EnableKeyRotation"]
    policies = (key["KeyPolicy"], prod.properties("AlarmTopicPolicy")["PolicyDocument"])
    granted = [allowed(policy, "cloudwatch.amazonaws.com") for policy in policies]
    assert granted == [["kms:Decrypt", "kms:GenerateDataKey"], ["sns:Publish"]]


def allowed(policy: dict[str, Any], principal: str) -> list[str]:
    """The actions of the one statement for a principal, which is bound to this account."""
    (statement,) = [
        each for each in policy["Statement"] if each["Principal"] == {"Service": principal}
    ]
    of_account = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert (statement["Effect"], statement["Condition"]) == ("Allow", of_account)
    return listed(statement["Action"])


def test_mail_is_sent_if_there_is_an_address(prod: Package, switched: Package):
    assert "AlarmMail" not in prod.resources
    mail = switched.properties("AlarmMail")
    assert (mail["Protocol"], mail["TopicArn"]) == ("email", {"Ref": "AlarmTopic"})
    assert switched.template["Parameters"]["AlarmEmail"]["Default"] == SWITCHED["alarmEmail"]
