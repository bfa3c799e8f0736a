"""Who is told of what: log groups, metrics, alarms and the topic, as compiled by `sls package`."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from local.cloudwatch.log_filters import matches
from tests.e2e.package.demands import fires
from tests.e2e.package.packaged import (
    REPOSITORY,
    SWITCHED,
    dimensions,
    listed,
    metrics,
)

if TYPE_CHECKING:
    from tests.e2e.package.packaged import Package, Stack

pytestmark = pytest.mark.e2e

CALL = (
    "from services.ingestion.handler import lambda_handler; lambda_handler({'no': 'event'}, None)"
)
OF_AWS = {"AWS/Lambda", "AWS/States"}
TICK = 600
DAY = 24 * 3600
STATE_MACHINE = "AWS::StepFunctions::StateMachine"


@pytest.fixture(scope="module")
def lines(package: Package) -> list[dict[str, Any]]:
    """The JSON lines of a failed call, made in the environment that is deployed."""
    done = subprocess.run(
        [sys.executable, "-c", CALL],
        cwd=REPOSITORY,
        env={"PATH": os.environ["PATH"], **package.environment},
        capture_output=True,
        text=True,
    )
    printed = (done.stdout + done.stderr).splitlines()
    return [json.loads(line) for line in printed if line.startswith("{")]


def test_logs_are_kept_for_a_while(prod: Stack, switched: Stack):
    groups = prod.of_type("AWS::Logs::LogGroup")
    assert {group["RetentionInDays"] for group in groups.values()} == {365}
    # AWS asks for this prefix, see resources/logs.yml.
    assert groups["StateMachineLogGroup"]["LogGroupName"].startswith("/aws/vendedlogs/states/")
    made = [each for each in switched.template["Resources"].values() if is_log_group(each)]
    assert {each["Properties"]["RetentionInDays"] for each in made} == {14}


def is_log_group(resource: dict[str, Any]) -> bool:
    return bool(resource["Type"] == "AWS::Logs::LogGroup")


def test_logs_outlive_the_stack_but_not_a_first_deployment_that_is_rolled_back(prod: Stack):
    groups = [each for each in prod.resources.values() if is_log_group(each)]
    machines = prod.of_type(STATE_MACHINE).values()
    of_machines = {json.dumps(each["LoggingConfiguration"]["Destinations"]) for each in machines}
    assert len(groups) == len(prod.functions) + len(of_machines)
    for each in groups:
        kept = each["DeletionPolicy"], each["UpdateReplacePolicy"]
        assert kept == ("RetainExceptOnCreate", "Retain")


def test_logs_that_were_kept_can_be_taken_over(prod: Stack, switched: Stack):
    """Under the same names: the state machine's log here, the functions' in demands.py."""
    assert not switched.has_log_groups
    assert '"Ref": "IngestLogGroup"' not in json.dumps(switched.resources)
    group = prod.properties("StateMachineLogGroup")["LogGroupName"].replace("prod", "dev")
    arn = f"arn:${{AWS::Partition}}:logs:${{AWS::Region}}:${{AWS::AccountId}}:log-group:{group}:*"
    (destination,) = switched.properties("IngestionStateMachine")["LoggingConfiguration"][
        "Destinations"
    ]
    assert destination == {"CloudWatchLogsLogGroup": {"LogGroupArn": {"Fn::Sub": arn}}}


def test_each_alarm_sends_its_own_email_and_says_why(prod: Stack):
    topic = [{"Ref": "AlarmTopic"}]
    assert not prod.of_type("AWS::CloudWatch::CompositeAlarm")
    for name, alarm in prod.of_type("AWS::CloudWatch::Alarm").items():
        assert 50 < len(alarm["AlarmDescription"]) < 1024, name
        assert alarm["AlarmActions"] == alarm["OKActions"] == topic, name
        assert alarm.get("ActionsEnabled", True), name


def test_the_subject_of_an_email_has_the_whole_name_of_its_alarm(prod: Stack):
    """SNS cuts a subject to 100 characters."""
    for alarm in prod.of_type("AWS::CloudWatch::Alarm").values():
        assert len(f'ALARM: "{alarm["AlarmName"]}" in Asia Pacific (Singapore)') <= 100


def test_everything_that_can_go_wrong_is_watched(prod: Stack):
    watched = {
        (metric["Namespace"], metric["MetricName"])
        for alarm in prod.of_type("AWS::CloudWatch::Alarm").values()
        for metric in metrics(alarm)
    }
    assert watched >= {
        ("Totesys", "prod-ingest-errors"),
        ("Totesys", "prod-reconcile-errors"),
        ("Totesys", "prod-contracts-broken"),
        ("Totesys", "prod-rows-missing"),
        ("Totesys", "prod-objects-broken"),
        ("Totesys", "prod-rows-differ"),
        ("Totesys", "prod-deletes-held-back"),
        ("Totesys", "prod-rows-held-back"),
        ("AWS/States", "ExecutionsFailed"),
        ("AWS/States", "ExecutionsTimedOut"),
        ("AWS/Lambda", "Duration"),
        ("AWS/Lambda", "AsyncEventsDropped"),  # of the reconciliation
    }


def test_alarms_watch_this_stack(prod: Stack):
    machines = prod.of_type("AWS::StepFunctions::StateMachine")
    subjects = {
        "AWS/Lambda": [{"FunctionName": {"Ref": name}} for name in prod.functions],
        "AWS/States": [{"StateMachineArn": {"Ref": name}} for name in machines],
    }
    for alarm in prod.of_type("AWS::CloudWatch::Alarm").values():
        for metric in metrics(alarm):
            if metric["Namespace"] in OF_AWS:
                assert dimensions(metric) in subjects[metric["Namespace"]]
    (slow,) = metrics(prod.properties("FunctionSlowAlarm"))
    assert dimensions(slow) == {"FunctionName": {"Ref": "IngestLambdaFunction"}}
    watched = {
        (metric["MetricName"], dimensions(metric)["StateMachineArn"]["Ref"])
        for alarm in prod.of_type("AWS::CloudWatch::Alarm").values()
        for metric in metrics(alarm)
        if metric["Namespace"] == "AWS/States"
    }
    # The load has no timeout: it ends when its items have ended.
    assert "TimeoutSeconds" not in prod.definition_of("LoadStateMachine")
    assert watched == {
        ("ExecutionsFailed", "IngestionStateMachine"),
        ("ExecutionsTimedOut", "IngestionStateMachine"),
        ("ExecutionsFailed", "LoadStateMachine"),
    }


def test_alarms_on_our_metrics_watch_what_a_filter_counts(prod: Stack):
    counted = {
        (made["MetricNamespace"], made["MetricName"])
        for each in prod.of_type("AWS::Logs::MetricFilter").values()
        for made in each["MetricTransformations"]
    }
    watched = {
        (metric["Namespace"], metric["MetricName"])
        for alarm in prod.of_type("AWS::CloudWatch::Alarm").values()
        for metric in metrics(alarm)
        if metric["Namespace"] not in OF_AWS
    }
    assert watched == counted


def test_a_filter_costs_nothing_while_no_line_matches(prod: Stack):
    """A default value would be a value in each hour, and each hour with a value is charged."""
    for each in prod.of_type("AWS::Logs::MetricFilter").values():
        for made in each["MetricTransformations"]:
            assert made.keys() == {"MetricNamespace", "MetricName", "MetricValue"}
            assert made["MetricValue"] == "1"


def test_each_line_that_fires_an_alarm_fires_one(prod: Stack):
    """The general filters leave out the lines that have an alarm of their own, and no others."""
    filters = prod.of_type("AWS::Logs::MetricFilter").values()
    names = {
        made["MetricName"].removeprefix("prod-")
        for each in filters
        for made in each["MetricTransformations"]
    }
    for group, general in (
        ("IngestLogGroup", "ingest-errors"),
        ("ReconcileLogGroup", "reconcile-errors"),
    ):
        patterns = {
            made["MetricName"].removeprefix("prod-"): each["FilterPattern"]
            for each in filters
            for made in each["MetricTransformations"]
            if each["LogGroupName"] == {"Ref": group}
        }
        for alarm in names | {"executions-failed", "load-failed"}:
            line = json.dumps({"level": "ERROR", "message": "x", "alarm": alarm})
            counted = {name for name, pattern in patterns.items() if matches(pattern, line)}
            assert counted <= {alarm}
        line = json.dumps({"level": "ERROR", "message": "x"})
        assert {name for name, each in patterns.items() if matches(each, line)} == {general}


def test_a_transient_error_counts_once_a_call(prod: Stack):
    """Its lines of single tables don't count."""
    pattern = prod.properties("DatabaseUnavailableFilter")["FilterPattern"]
    line = {"level": "WARNING", "message": "The run failed", "alarm": "database-unavailable"}
    assert matches(pattern, json.dumps(line))
    assert not matches(pattern, json.dumps(line | {"message": "Table 'staff' failed"}))
    calls_of_a_run = 1 + prod.definition["States"]["Ingest"]["Retry"][0]["MaxAttempts"]
    for name in ("DatabaseUnavailableAlarm", "AwsUnavailableAlarm"):
        alarm = prod.properties(name)
        assert alarm["Threshold"] == calls_of_a_run + 1
        assert shortest_period(alarm) == 2 * TICK
        assert "FILL(failures, 0)" in [each.get("Expression") for each in alarm["Metrics"]]


WAIT = {
    "NoHeartbeatAlarm",
    "NoReconciliationAlarm",
    "RowsHeldBackAlarm",
    "DatabaseUnavailableAlarm",
    "AwsUnavailableAlarm",
}


def test_one_bad_run_is_an_alarm_which_clears_by_itself(prod: Stack):
    for name, alarm in prod.of_type("AWS::CloudWatch::Alarm").items():
        if name not in WAIT:
            assert alarm["DatapointsToAlarm"] == 1 < alarm["EvaluationPeriods"], name
            assert shortest_period(alarm) >= TICK, name
            assert alarm["TreatMissingData"] == "notBreaching", name


def test_a_finding_of_several_nights_is_one_alarm(prod: Stack):
    """It lasts until the next night's finding, also if that is some minutes later."""
    for name in ("RowsMissing", "ObjectsBroken", "ReconcileErrors", "ReconcileFailed"):
        alarm = prod.properties(f"{name}Alarm")
        assert alarm["Period"] * alarm["EvaluationPeriods"] == DAY + 3600


def shortest_period(alarm: dict[str, Any]) -> int:
    periods = [
        each["MetricStat"]["Period"] for each in alarm.get("Metrics", []) if "MetricStat" in each
    ]
    return int(min(periods or [alarm["Period"]]))


def test_alarms_that_count_fire_at_the_first(prod: Stack):
    """A single missing row, broken object, bad row or failed execution is enough."""
    counting = {
        name: alarm
        for name, alarm in prod.of_type("AWS::CloudWatch::Alarm").items()
        if name not in WAIT and "Metrics" not in alarm
    }
    assert {"RowsMissingAlarm", "ObjectsBrokenAlarm", "ContractsBrokenAlarm"} <= set(counting)
    for name, alarm in counting.items():
        assert alarm["Statistic"] == "Sum", name
        assert not fires(alarm, 0), name
        assert fires(alarm, 1), name


def test_rows_are_held_back_for_an_hour_before_the_alarm_fires(prod: Stack):
    alarm = prod.properties("RowsHeldBackAlarm")
    assert (alarm["Period"], alarm["DatapointsToAlarm"]) == (TICK, 6)
    assert alarm["EvaluationPeriods"] == 7  # one may be empty, if a run is late
    assert fires(alarm, 1)
    assert alarm["TreatMissingData"] == "notBreaching"
    pattern = prod.properties("RowsHeldBackFilter")["FilterPattern"]
    for age in (0, 1):
        line = json.dumps({"message": "Table ingested", "watermark_age_seconds": age})
        assert matches(pattern, line) is (age > 0)


def test_error_lines_are_counted(prod: Stack, lines: list[dict[str, Any]]):
    pattern = prod.properties("IngestErrorsFilter")["FilterPattern"]
    assert [line for line in lines if matches(pattern, json.dumps(line))]


@pytest.mark.parametrize(
    ("name", "hours", "function"),
    [
        ("NoHeartbeatAlarm", 0.5, "IngestLambdaFunction"),
        ("NoReconciliationAlarm", 26, "ReconcileLambdaFunction"),
    ],
)
def test_a_time_without_a_call_is_an_alarm(
    prod: Stack, switched: Stack, name: str, hours: float, function: str
):
    alarm = prod.properties(name)
    assert (alarm["MetricName"], alarm["Statistic"]) == ("Duration", "SampleCount")
    assert dimensions(alarm) == {"FunctionName": {"Ref": function}}
    assert alarm["Period"] * alarm["EvaluationPeriods"] == hours * 3600
    assert alarm["DatapointsToAlarm"] == alarm["EvaluationPeriods"]
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert alarm["TreatMissingData"] == "breaching"
    # A new stage has time for its first call. So has one whose schedule is switched on again,
    # because without a schedule there is no such alarm.
    assert alarm["WarmUpConfiguration"]["WarmUpPeriodDurationInMinutes"] > hours * 60
    assert name not in switched.resources


def test_slow_is_eighty_percent_of_the_timeout(prod: Stack, switched: Stack):
    for package in (prod, switched):
        alarm = package.properties("FunctionSlowAlarm")
        (expression,) = [each["Expression"] for each in alarm["Metrics"] if "Expression" in each]
        milliseconds = 1000 * package.properties("IngestLambdaFunction")["Timeout"]
        percent = eval(expression, {"duration": 0.8 * milliseconds})
        assert percent == pytest.approx(alarm["Threshold"])
        (duration,) = [each["MetricStat"] for each in alarm["Metrics"] if "MetricStat" in each]
        assert duration["Stat"] == "Maximum"


def test_alarms_may_publish_to_the_topic(prod: Stack, switched: Stack):
    """A key of KMS is a matter of whoever must have one: SNS encrypts what it stores anyway."""
    assert "KmsMasterKeyId" not in prod.properties("AlarmTopic")
    assert switched.properties("AlarmTopic")["KmsMasterKeyId"] == {"Ref": "AlarmTopicKey"}
    default = switched.template["Parameters"]["AlarmTopicKey"]["Default"]
    assert default == SWITCHED["alarmTopicKey"]
    assert not prod.of_type("AWS::KMS::Key")
    policy = prod.properties("AlarmTopicPolicy")["PolicyDocument"]
    assert allowed(policy, "cloudwatch.amazonaws.com") == ["sns:Publish"]
    assert prod.properties("AlarmTopicPolicy")["Topics"] == [{"Ref": "AlarmTopic"}]


def allowed(policy: dict[str, Any], principal: str) -> list[str]:
    """The actions of the one statement for a principal, which is bound to this account."""
    (statement,) = [
        each for each in policy["Statement"] if each["Principal"] == {"Service": principal}
    ]
    of_account = {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    assert (statement["Effect"], statement["Condition"]) == ("Allow", of_account)
    return listed(statement["Action"])


def test_email_is_sent_if_there_is_an_address(prod: Stack, switched: Stack):
    assert "AlarmMail" not in prod.resources
    mail = switched.properties("AlarmMail")
    assert (mail["Protocol"], mail["TopicArn"]) == ("email", {"Ref": "AlarmTopic"})
    assert mail["Endpoint"] == {"Ref": "AlarmEmail"}
    assert switched.template["Parameters"]["AlarmEmail"]["Default"] == SWITCHED["alarmEmail"]
