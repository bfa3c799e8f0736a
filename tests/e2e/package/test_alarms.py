"""Who is told of what: log groups, metrics, alarms and the topic, as compiled by `sls package`."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from local.cloudwatch.alarms import holds
from tests.e2e.package.demands import attempts, fires
from tests.e2e.package.packaged import (
    REPOSITORY,
    SWITCHED,
    alarm_names,
    dimensions,
    listed,
    metrics,
)

if TYPE_CHECKING:
    from local.cloudwatch.alarms import State
    from tests.e2e.package.packaged import Package, Stack

pytestmark = pytest.mark.e2e

CALL = (
    "from services.ingestion.handler import lambda_handler; lambda_handler({'no': 'event'}, None)"
)
OF_AWS = {"AWS/Lambda", "AWS/States", "AWS/Events"}
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
    assert len(groups) == len(prod.functions) + len(prod.of_type(STATE_MACHINE))
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


def test_one_alarm_watches_all_others_and_sends_the_email(prod: Stack):
    composite = prod.properties("IngestionAlarm")
    assert composite["AlarmActions"] == composite["OKActions"] == [{"Ref": "AlarmTopic"}]
    assert composite.get("ActionsEnabled", True)
    watched = alarm_names(composite["AlarmRule"])
    assert sorted(watched) == sorted(prod.of_type("AWS::CloudWatch::Alarm"))


def test_each_alarm_alone_sends_the_email(prod: Stack):
    rule = prod.properties("IngestionAlarm")["AlarmRule"]["Fn::Sub"]
    quiet: dict[str, State] = dict.fromkeys(prod.of_type("AWS::CloudWatch::Alarm"), "OK")
    assert not holds(rule, quiet)
    for name in quiet:
        assert holds(rule, quiet | {name: "ALARM"}) is (name != "StartedAlarm")
    never_ran: dict[str, State] = {"StartedAlarm": "INSUFFICIENT_DATA"}
    assert not holds(rule, quiet | never_ran | {"NoHeartbeatAlarm": "ALARM"})
    assert holds(rule, quiet | never_ran | {"IngestErrorsAlarm": "ALARM"})


def test_single_alarms_say_why_and_send_nothing(prod: Stack):
    for alarm in prod.of_type("AWS::CloudWatch::Alarm").values():
        assert 50 < len(alarm["AlarmDescription"]) < 1024
        assert not {"AlarmActions", "OKActions", "InsufficientDataActions"} & set(alarm)


def test_everything_that_can_go_wrong_is_watched(prod: Stack):
    watched = {
        (metric["Namespace"], metric["MetricName"])
        for alarm in prod.of_type("AWS::CloudWatch::Alarm").values()
        for metric in metrics(alarm)
    }
    assert watched >= {
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
        ("AWS/Lambda", "Errors"),  # of the reconciliation
        ("AWS/Events", "FailedInvocations"),
    }


def test_alarms_watch_this_stack(prod: Stack):
    rule = "IngestionStepFunctionsEventsRuleSchedule1"
    assert rule in prod.of_type("AWS::Events::Rule")
    machines = prod.of_type("AWS::StepFunctions::StateMachine")
    subjects = {
        "AWS/Lambda": [{"FunctionName": {"Ref": name}} for name in prod.functions],
        "AWS/States": [{"StateMachineArn": {"Ref": name}} for name in machines],
        "AWS/Events": [{"RuleName": {"Ref": name}} for name in prod.of_type("AWS::Events::Rule")],
    }
    for alarm in prod.of_type("AWS::CloudWatch::Alarm").values():
        for metric in metrics(alarm):
            if metric["Namespace"] in OF_AWS:
                assert dimensions(metric) in subjects[metric["Namespace"]]
    (slow,) = metrics(prod.properties("FunctionSlowAlarm"))
    assert dimensions(slow) == {"FunctionName": {"Ref": "IngestLambdaFunction"}}
    assert dimensions(prod.properties("ScheduleFailedAlarm")) == {"RuleName": {"Ref": rule}}
    stopped = prod.properties("ExecutionsAbortedAlarm")
    assert dimensions(stopped) == {"StateMachineArn": {"Ref": "IngestionStateMachine"}}


def test_alarms_on_our_metrics_are_on_ones_that_the_service_emits(prod: Stack, package: Package):
    emitters = {prod.variables(name)["POWERTOOLS_SERVICE_NAME"]: name for name in package.functions}
    looked_at = []
    for alarm in prod.of_type("AWS::CloudWatch::Alarm").values():
        for metric in metrics(alarm):
            found = dimensions(metric)
            if metric["Namespace"] not in OF_AWS and found:
                name = emitters[found["service"]]
                variables = prod.variables(name)
                assert metric["Namespace"] == variables["POWERTOOLS_METRICS_NAMESPACE"]
                assert found["stage"] == variables["STAGE"]
                assert metric["MetricName"] in words_of(package, name)
                looked_at.append(metric["MetricName"])
    assert {"Heartbeat", "MissingRows", "BrokenObjects"} <= set(looked_at)


def words_of(package: Package, function: str) -> set[str]:
    """The texts in quotes in the code of a function's service."""
    folder = package.properties(function)["Handler"].rpartition("/")[0]
    code = [
        package.function.read(name).decode()
        for name in package.function.namelist()
        if name.startswith(f"{folder}/") and name.endswith(".py")
    ]
    return set(re.findall(r'"(\w+)"', "".join(code)))


def test_one_bad_run_is_an_alarm_which_clears_by_itself(prod: Stack):
    for name, alarm in prod.of_type("AWS::CloudWatch::Alarm").items():
        if name not in {"NoHeartbeatAlarm", "StartedAlarm", "RowsHeldBackAlarm"}:
            if alarm.get("Period") == DAY:
                assert alarm["EvaluationPeriods"] == 1
            else:
                assert alarm["DatapointsToAlarm"] == 1 < alarm["EvaluationPeriods"]
                assert shortest_period(alarm) >= TICK
            assert alarm["TreatMissingData"] == "notBreaching"


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
        if name not in {"NoHeartbeatAlarm", "StartedAlarm", "RowsHeldBackAlarm"}
        and "Metrics" not in alarm
    }
    assert {"RowsMissingAlarm", "ObjectsBrokenAlarm", "ContractsBrokenAlarm"} <= set(counting)
    for name, alarm in counting.items():
        assert alarm["Statistic"] in {"Sum", "Maximum"}, name
        assert not fires(alarm, 0), name
        # Lambda tries again by itself what nobody waits for: one failure is no news yet.
        function = dimensions(alarm).get("FunctionName", {}).get("Ref")
        assert fires(alarm, attempts(prod, function) if function else 1), name


def test_rows_are_held_back_for_an_hour_before_the_alarm_fires(prod: Stack):
    alarm = prod.properties("RowsHeldBackAlarm")
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 3600
    assert alarm["DatapointsToAlarm"] == alarm["EvaluationPeriods"]
    assert alarm["Period"] >= 2 * TICK  # each holds a run, however early or late runs end
    assert alarm["Statistic"] == "Minimum"  # in every run of the hour
    assert fires(alarm, 1)
    assert not fires(alarm, 0)
    assert alarm["TreatMissingData"] == "notBreaching"


def test_a_new_stage_is_not_one_that_stands_still(prod: Stack):
    heartbeat, started = prod.properties("NoHeartbeatAlarm"), prod.properties("StartedAlarm")
    assert started["TreatMissingData"] == "ignore"
    for name in ("Namespace", "MetricName", "Dimensions", "Statistic", "Threshold"):
        assert started[name] == heartbeat[name]


def test_error_lines_are_counted(prod: Stack, lines: list[dict[str, Any]]):
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
    assert (metric["MetricValue"], metric["DefaultValue"]) == ("1", 0)


def test_heartbeat_is_the_metric_that_a_call_emits(prod: Stack, lines: list[dict[str, Any]]):
    (blob,) = [line for line in lines if "Heartbeat" in line]
    ((emitted,),) = [each["Dimensions"] for each in blob["_aws"]["CloudWatchMetrics"]]
    alarm = prod.properties("NoHeartbeatAlarm")
    assert dimensions(alarm) == {name: blob[name] for name in emitted}
    assert blob["_aws"]["CloudWatchMetrics"][0]["Namespace"] == alarm["Namespace"]
    assert blob["Heartbeat"] == [1]


def test_half_an_hour_without_heartbeat_is_an_alarm(prod: Stack, switched: Stack):
    alarm = prod.properties("NoHeartbeatAlarm")
    assert alarm["Period"] * alarm["EvaluationPeriods"] == 30 * 60
    assert alarm["DatapointsToAlarm"] == alarm["EvaluationPeriods"] == 3
    assert (alarm["ComparisonOperator"], alarm["Threshold"]) == ("LessThanThreshold", 1)
    assert alarm["TreatMissingData"] == "breaching"
    assert switched.properties("NoHeartbeatAlarm")["TreatMissingData"] == "notBreaching"


def test_slow_is_eighty_percent_of_the_timeout(prod: Stack, switched: Stack):
    for package in (prod, switched):
        alarm = package.properties("FunctionSlowAlarm")
        (expression,) = [each["Expression"] for each in alarm["Metrics"] if "Expression" in each]
        milliseconds = 1000 * package.properties("IngestLambdaFunction")["Timeout"]
        percent = eval(expression, {"duration": 0.8 * milliseconds})
        assert percent == pytest.approx(alarm["Threshold"])
        (duration,) = [each["MetricStat"] for each in alarm["Metrics"] if "MetricStat" in each]
        assert duration["Stat"] == "Maximum"


def test_alarms_may_publish_to_the_encrypted_topic(prod: Stack):
    topic, key = prod.properties("AlarmTopic"), prod.properties("AlarmTopicKey")
    assert topic["KmsMasterKeyId"] == {"Ref": "AlarmTopicKey"}
    assert key["EnableKeyRotation"]
    policies = (key["KeyPolicy"], prod.properties("AlarmTopicPolicy")["PolicyDocument"])
    granted = [allowed(policy, "cloudwatch.amazonaws.com") for policy in policies]
    assert granted == [["kms:Decrypt", "kms:GenerateDataKey"], ["sns:Publish"]]
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
