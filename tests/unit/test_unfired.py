"""Which triggers the stand-in for AWS refuses, because it could not fire them."""

from __future__ import annotations

from typing import Any

import pytest

from local.aws.unfired import unfired

FUNCTION = {"Fn::GetAtt": ["Function", "Arn"]}
STARTED = {
    "Function": {"Type": "AWS::Lambda::Function", "Properties": {}},
    "Machine": {"Type": "AWS::StepFunctions::StateMachine", "Properties": {}},
    "Queue": {"Type": "AWS::SQS::Queue", "Properties": {}},
    "Topic": {"Type": "AWS::SNS::Topic", "Properties": {}},
}
EXECUTIONS = "Step Functions Execution Status Change"


def found(kind: str, **properties: Any) -> list[str]:
    """Return what is wrong with a resource, without its name and type."""
    resources = STARTED | {"It": {"Type": kind, "Properties": properties}}
    faults = unfired(resources)
    assert all(fault.startswith(f"It ({kind}) ") for fault in faults)
    return [fault.removeprefix(f"It ({kind}) ") for fault in faults]


def rule(pattern: Any = None, arn: Any = FUNCTION, **more: Any) -> list[str]:
    trigger = {"EventPattern": pattern} if pattern else {"ScheduleExpression": "rate(1 hour)"}
    return found("AWS::Events::Rule", **trigger, Targets=[{"Id": "1", "Arn": arn} | more])


@pytest.mark.parametrize(
    ("kind", "property_", "value"),
    [
        ("AWS::Lambda::EventSourceMapping", "FunctionName", {"Ref": "Function"}),
        ("AWS::Lambda::Url", "TargetFunctionArn", FUNCTION),
        ("AWS::Lambda::EventInvokeConfig", "DestinationConfig",
         {"OnFailure": {"Destination": FUNCTION}}),
        ("AWS::Scheduler::Schedule", "Target", {"Arn": {"Fn::GetAtt": "Function.Arn"}}),
        ("AWS::SNS::Subscription", "Endpoint", FUNCTION),
        ("AWS::SNS::Topic", "Subscription", [{"Endpoint": FUNCTION, "Protocol": "lambda"}]),
        ("AWS::Pipes::Pipe", "Target", FUNCTION),
        ("AWS::Logs::SubscriptionFilter", "DestinationArn", FUNCTION),
        ("AWS::CloudWatch::Alarm", "AlarmActions", [FUNCTION]),
        ("AWS::ApiGatewayV2::Integration", "IntegrationUri",
         {"Fn::Sub": "arn:aws:apigateway:x:lambda:path/functions/${Function.Arn}/invocations"}),
        ("AWS::ApiGateway::Method", "Integration",
         {"Uri": {"Fn::Sub": ["arn/${Arn}", {"Arn": FUNCTION}]}}),
        ("AWS::Cognito::UserPool", "LambdaConfig", {"PostConfirmation": FUNCTION}),
        ("AWS::SecretsManager::RotationSchedule", "RotationLambdaARN", FUNCTION),
        ("Custom::S3", "ServiceToken", FUNCTION),
        ("Custom::WhateverComes", "Any", [{"Deep": ["down", {"Fn::Join": ["", [FUNCTION]]}]}]),
    ],
)  # fmt: skip
def test_whatever_starts_a_function_and_is_not_known_is_refused(kind, property_, value):
    assert found(kind, **{property_: value}) == ["starts Function"]


def test_a_state_machine_is_started_too():
    target = {"Arn": {"Ref": "Machine"}}
    assert found("AWS::Scheduler::Schedule", Target=target) == ["starts Machine"]


@pytest.mark.parametrize(
    ("kind", "property_", "value"),
    [
        ("AWS::CloudWatch::Alarm", "Dimensions", [{"Value": {"Ref": "Function"}}]),
        ("AWS::CloudWatch::Dashboard", "DashboardBody", {"Fn::Sub": "${Function}"}),
        ("AWS::IAM::Role", "Policies", [{"Resource": FUNCTION}]),
        ("AWS::Logs::LogGroup", "LogGroupName", {"Fn::Sub": "/aws/lambda/${Function}"}),
        ("AWS::Lambda::EventInvokeConfig", "FunctionName", {"Ref": "Function"}),
        ("AWS::Lambda::Version", "FunctionName", {"Ref": "Function"}),
        ("AWS::StepFunctions::StateMachine", "DefinitionSubstitutions", {"a": FUNCTION}),
        ("AWS::SNS::Subscription", "Endpoint", "data@example.com"),
        ("AWS::DynamoDB::Table", "TableName", {"Fn::Sub": "${AWS::StackName}-table"}),
    ],
)
def test_what_only_mentions_a_function_is_deployed(kind, property_, value):
    assert found(kind, **{property_: value}) == []


@pytest.mark.parametrize("principal", ["sns.amazonaws.com", "alexa-appkit.amazon.com", "*"])
def test_whoever_may_call_a_function_from_outside_is_refused(principal):
    permission = {"FunctionName": {"Ref": "Function"}, "Principal": principal}
    assert found("AWS::Lambda::Permission", **permission) == [f"lets {principal} call a function"]


@pytest.mark.parametrize("principal", ["events.amazonaws.com", "s3.amazonaws.com"])
def test_who_calls_a_function_is_deployed(principal):
    permission = {"FunctionName": {"Ref": "Function"}, "Principal": principal}
    assert found("AWS::Lambda::Permission", **permission) == []


def test_rules_that_are_fired():
    ours = {"source": ["ours", {"prefix": "of."}], "detail-type": ["any"]}
    assert rule({"source": ["aws.states"], "detail-type": [EXECUTIONS]}) == []
    assert rule({"source": ["aws.s3"]}, {"Ref": "Machine"}) == []
    assert rule(ours, "arn:aws:lambda:eu-west-2:123456789012:function:f", Input="{}") == []
    assert rule(ours, {"Fn::Sub": "arn:${AWS::Partition}:sqs:${AWS::Region}:1:queue"}) == []
    assert rule(ours, {"Fn::GetAtt": ["Queue", "Arn"]}, InputPath="$.detail") == []
    assert rule(None, FUNCTION) == rule(None, {"Ref": "Machine"}) == []


def test_rules_that_are_not():
    assert rule({"source": ["aws.rds", "aws.ec2", "aws.s3"]}) == [
        "waits for events of aws.ec2",
        "waits for events of aws.rds",
    ]
    of_maps = {"source": ["aws.states"], "detail-type": [EXECUTIONS, "Map Run"]}
    assert rule(of_maps) == ['waits for "Map Run"']
    topic = {"Ref": "Topic"}
    assert rule({"source": ["ours"]}, topic) == [f"has the target {topic}"]
    queue = {"Fn::GetAtt": ["Queue", "Arn"]}
    assert rule(None, queue) == [f"has the target {queue}"]
    transformer = {"InputTemplate": "<a>"}
    [said] = rule({"source": ["ours"]}, InputTransformer=transformer)
    assert "InputTransformer" in said


def test_notifications_of_a_bucket():
    configurations = [
        {"Event": event, "Function": FUNCTION}
        for event in ("s3:ObjectCreated:*", "s3:ObjectCreated:Put", "s3:ObjectRemoved:*")
    ]
    notifications = {
        "LambdaConfigurations": configurations,
        "TopicConfigurations": [{"Event": "s3:LifecycleTransition", "Topic": {"Ref": "Topic"}}],
        "EventBridgeConfiguration": {"EventBridgeEnabled": True},
    }
    assert found("AWS::S3::Bucket", NotificationConfiguration=notifications) == [
        "notifies of s3:ObjectRemoved:*",
        "notifies of s3:LifecycleTransition",
    ]
    assert found("AWS::S3::Bucket") == []
