"""The stand-in for AWS fires the triggers of a template, or refuses to deploy them."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import pytest
from botocore.exceptions import ClientError

from local.aws.function_log import FunctionLog
from local.aws.stand_in import LocalAws
from local.aws.template import physical_names
from tests.e2e.test_local_functions import zipped

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e

ZIPS = "zips"
ROLE = "arn:aws:iam::123456789012:role/any"
ECHO = """
import json

def handler(event, context):
    print(json.dumps(event))
"""
WAIT_SECONDS = 60
STATES = {
    "StartAt": "How",
    "TimeoutSeconds": 1,
    "States": {
        "How": {
            "Type": "Choice",
            "Choices": [
                {"Variable": "$.how", "StringEquals": "fail", "Next": "Fail"},
                {"Variable": "$.how", "StringEquals": "wait", "Next": "Wait"},
            ],
            "Default": "Done",
        },
        "Fail": {"Type": "Fail", "Error": "OddError", "Cause": "the cause"},
        "Wait": {"Type": "Wait", "Seconds": 3600, "Next": "Done"},
        "Done": {"Type": "Succeed"},
    },
}
OF_EXECUTIONS = {
    "source": ["aws.states"],
    "detail-type": ["Step Functions Execution Status Change"],
    "detail": {
        "stateMachineArn": [{"Ref": "Machine"}],
        "status": ["SUCCEEDED", "FAILED", "TIMED_OUT", "ABORTED"],
    },
}
OF_OURS = {"source": ["ours"]}
MACHINES = {"Machine", "Caller"}
DETAIL = {"a": ["b", 1]}


def rule(target: str, pattern: dict[str, Any], **more: Any) -> dict[str, Any]:
    state = more.pop("State", "ENABLED")
    arn = {"Ref": target} if target in MACHINES else {"Fn::GetAtt": [target, "Arn"]}
    targets = [{"Id": "it", "Arn": arn} | more]
    return resource("AWS::Events::Rule", EventPattern=pattern, State=state, Targets=targets)


def resource(kind: str, **properties: Any) -> dict[str, Any]:
    return {"Type": kind, "Properties": properties}


def function(**more: Any) -> dict[str, Any]:
    return resource(
        "AWS::Lambda::Function",
        Runtime="python3.13",
        Handler="index.handler",
        Role=ROLE,
        Code={"S3Bucket": ZIPS, "S3Key": "echo.zip"},
        **more,
    )


def machine(definition: dict[str, Any]) -> dict[str, Any]:
    return resource(
        "AWS::StepFunctions::StateMachine",
        RoleArn=ROLE,
        DefinitionString=json.dumps(definition),
    )


def notified(function: str, event: str = "s3:ObjectCreated:*", **more: Any) -> dict[str, Any]:
    return {"Event": event, "Function": {"Fn::GetAtt": [function, "Arn"]}} | more


def keys(prefix: str, suffix: str) -> dict[str, Any]:
    rules = [{"Name": "prefix", "Value": prefix}, {"Name": "Suffix", "Value": suffix}]
    return {"S3Key": {"Rules": rules}}


RESOURCES = {
    "Machine": machine(STATES),
    "OfExecutions": function(),
    "ExecutionsRule": rule("OfExecutions", OF_EXECUTIONS),
    "OfEvents": function(),
    "WholeRule": rule("OfEvents", OF_OURS),
    "DisabledRule": rule("OfEvents", OF_OURS, State="DISABLED", Input='"disabled"'),
    "FixedRule": rule("OfEvents", OF_OURS, Input='"fixed"'),
    "PathRule": rule("OfEvents", OF_OURS, InputPath="$.detail"),
    "Caller": machine({"StartAt": "Call", "States": {"Call": {
        "Type": "Task", "Resource": "arn:aws:states:::lambda:invoke",
        "Parameters": {"FunctionName": "called", "Payload.$": "$"}, "End": True}}}),
    "OfCaller": function(FunctionName="called"),
    "CallerRule": rule("Caller", OF_OURS, InputPath="$.detail"),
    "ScheduleRule": resource("AWS::Events::Rule", ScheduleExpression="rate(1 minute)",
                             Targets=[{"Id": "it", "Arn": {"Fn::GetAtt": ["OfEvents", "Arn"]}}]),
    "OfObjects": function(),
    "Objects": resource("AWS::S3::Bucket", NotificationConfiguration={
        "LambdaConfigurations": [notified("OfObjects", Filter=keys("some/", ".jsonl"))],
        "EventBridgeConfiguration": {"EventBridgeEnabled": True},
    }),
    "OfBuckets": function(),
    "ObjectsRule": rule("OfBuckets", {"source": ["aws.s3"], "detail-type": ["Object Created"]}),
}  # fmt: skip


class Deployed:
    """The stack, and what its functions were called with."""

    def __init__(self, aws: LocalAws, resources: dict[str, Any], name: str) -> None:
        self.aws, self.stack = aws, name
        self.client = aws.client("cloudformation")
        template = json.dumps({"Resources": resources})
        self.client.create_stack(StackName=name, TemplateBody=template)
        self.names = physical_names(self.client, name)

    def events(self, function: str, number: int) -> list[Any]:
        """Return what a function was called with, as soon as it is that often."""
        log = FunctionLog(self.aws.client("logs"), self.names[function])
        end = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < end:
            lines = log.lines() if self.was_called(function) else []
            if sum(line.startswith("REPORT") for line in lines) >= number:
                return [json.loads(line) for line in lines if line[0] in '{"[']
            time.sleep(0.02)
        raise TimeoutError(f"{function} was not called {number} times.")

    def was_called(self, function: str) -> bool:
        logs = self.aws.client("logs")
        group = f"/aws/lambda/{self.names[function]}"
        return bool(logs.describe_log_groups(logGroupNamePrefix=group)["logGroups"])

    def start(self, how: str) -> str:
        started = self.aws.client("stepfunctions").start_execution(
            stateMachineArn=self.names["Machine"], name=how, input=json.dumps({"how": how})
        )
        return str(started["executionArn"])


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with LocalAws() as running:
        running.client("iam").create_role(RoleName="any", AssumeRolePolicyDocument="{}")
        s3 = running.client("s3")
        region = {"LocationConstraint": "eu-west-2"}
        s3.create_bucket(Bucket=ZIPS, CreateBucketConfiguration=region)
        s3.put_object(Bucket=ZIPS, Key="echo.zip", Body=zipped({"index.py": ECHO}))
        yield running


@pytest.fixture(scope="module")
def deployed(aws: LocalAws) -> Deployed:
    return Deployed(aws, RESOURCES, "triggers")


def test_every_end_of_an_execution_starts_the_function(deployed: Deployed):
    states = deployed.aws.client("stepfunctions")
    waiting = deployed.start("wait")
    arns = {"SUCCEEDED": deployed.start("succeed"), "FAILED": deployed.start("fail")}
    aborted = states.start_execution(
        stateMachineArn=deployed.names["Machine"], name="abort", input='{"how": "wait"}'
    )["executionArn"]
    states.stop_execution(executionArn=aborted)
    arns |= {"TIMED_OUT": waiting, "ABORTED": aborted}
    events = deployed.events("OfExecutions", 4)
    assert {each["detail"]["status"]: each["detail"]["executionArn"] for each in events} == arns
    for event in events:
        detail, status = event["detail"], event["detail"]["status"]
        described = states.describe_execution(executionArn=detail["executionArn"])
        assert event["source"] == "aws.states"
        assert event["resources"] == [detail["executionArn"]]
        assert detail["stateMachineArn"] == deployed.names["Machine"]
        assert (detail["name"], detail["input"]) == (described["name"], described["input"])
        assert detail["startDate"] == int(described["startDate"].timestamp() * 1000)
        assert detail["stopDate"] >= detail["startDate"]
        assert (detail["output"] is None) == (status != "SUCCEEDED")
        assert (detail["error"] == "OddError") == (status == "FAILED")


def test_an_event_reaches_its_targets_as_they_want_it(deployed: Deployed):
    events = deployed.aws.client("events")
    put = {"Source": "ours", "DetailType": "any", "Detail": json.dumps(DETAIL)}
    assert events.put_events(Entries=[put, put | {"Source": "others"}])["FailedEntryCount"] == 0
    received = deployed.events("OfEvents", 3)
    [whole] = [each for each in received if "source" in each]
    assert (whole["source"], whole["detail-type"], whole["detail"]) == ("ours", "any", DETAIL)
    assert whole["time"].endswith("Z")
    assert "ingestion-time" not in whole
    others = [each for each in received if each is not whole]
    assert sorted(others, key=str) == ["fixed", DETAIL]
    assert deployed.events("OfCaller", 1) == [DETAIL]


def test_a_new_object_starts_the_functions_that_its_bucket_notifies(deployed: Deployed):
    s3, bucket = deployed.aws.client("s3"), deployed.names["Objects"]
    for key in ("some/1.jsonl", "some/2.json", "other/3.jsonl", "some/4.jsonl"):
        s3.put_object(Bucket=bucket, Key=key, Body=b"{}\n")
    by_rule = {each["detail"]["object"]["key"] for each in deployed.events("OfBuckets", 4)}
    assert by_rule >= {"some/1.jsonl", "some/2.json", "other/3.jsonl", "some/4.jsonl"}
    # A bucket calls its functions before it tells EventBridge: by now all have been called.
    received = [each for event in deployed.events("OfObjects", 2) for each in event["Records"]]
    found = [unquote_plus(each["s3"]["object"]["key"]) for each in received]
    assert sorted(found) == ["some/1.jsonl", "some/4.jsonl"]
    assert {each["s3"]["bucket"]["name"] for each in received} == {bucket}
    assert {each["eventName"] for each in received} == {"ObjectCreated:Put"}


def test_what_is_taken_out_of_the_template_is_no_longer_fired(aws: LocalAws):
    notifications = {"LambdaConfigurations": [notified("First")]}
    resources = {
        "First": function(),
        "FirstRule": rule("First", OF_OURS),
        "Second": function(),
        "Objects": resource("AWS::S3::Bucket"),
    }
    stack = Deployed(aws, resources, "changing")
    put = {"Source": "ours", "DetailType": "any", "Detail": "{}"}

    def update(rule_of: str, **properties: Any) -> None:
        changed = {k: v for k, v in resources.items() if k != "FirstRule"} | {
            f"{rule_of}Rule": rule(rule_of, OF_OURS),
            "Objects": resource("AWS::S3::Bucket", **properties),
        }
        template = json.dumps({"Resources": changed})
        stack.client.update_stack(StackName="changing", TemplateBody=template)

    def fire() -> None:
        aws.client("events").put_events(Entries=[put])
        aws.client("s3").put_object(Bucket=stack.names["Objects"], Key="key", Body=b"")

    update("Second", NotificationConfiguration=notifications)
    fire()
    assert "source" in stack.events("Second", 1)[0]
    assert "Records" in stack.events("First", 1)[0]
    update("Second")
    fire()
    assert len(stack.events("Second", 2)) == 2
    assert len(stack.events("First", 1)) == 1


MAPPING = resource(
    "AWS::Lambda::EventSourceMapping",
    FunctionName={"Ref": "Function"},
    EventSourceArn="arn:aws:sqs:eu-west-2:123456789012:queue",
)


def function_names(aws: LocalAws) -> set[str]:
    return {each["FunctionName"] for each in aws.client("lambda").list_functions()["Functions"]}


def test_a_stack_with_what_can_not_be_fired_is_not_created(aws: LocalAws):
    resources = {"Function": function(FunctionName="never"), "Mapping": MAPPING}
    with pytest.raises(ClientError) as refused:
        Deployed(aws, resources, "refused")
    said = str(refused.value)
    assert "- Mapping (AWS::Lambda::EventSourceMapping) starts Function" in said
    assert "Use one of these, or" in said
    assert "never" not in function_names(aws)


def test_an_update_with_what_can_not_be_fired_is_rolled_back(aws: LocalAws):
    resources = {"Function": function(), "OursRule": rule("Function", OF_OURS)}
    stack = Deployed(aws, resources, "updated")
    more = {"Second": function(FunctionName="never"), "Mapping": MAPPING}
    template = json.dumps({"Resources": resources | more})
    stack.client.update_stack(StackName="updated", TemplateBody=template)
    [described] = stack.client.describe_stacks(StackName="updated")["Stacks"]
    assert described["StackStatus"] == "UPDATE_ROLLBACK_COMPLETE"
    events = stack.client.describe_stack_events(StackName="updated")["StackEvents"]
    assert [each for each in events if "can't fire" in each.get("ResourceStatusReason", "")]
    assert "never" not in function_names(aws)
    put = {"Source": "ours", "DetailType": "any", "Detail": "{}"}
    aws.client("events").put_events(Entries=[put])
    assert len(stack.events("Function", 1)) == 1


def test_what_a_condition_leaves_out_is_not_refused(aws: LocalAws):
    template = {
        "Parameters": {"Real": {"Type": "String", "Default": "false"}},
        "Conditions": {
            "IsReal": {"Fn::Equals": [{"Ref": "Real"}, "true"]},
            "IsRealToo": {"Fn::And": [{"Condition": "IsReal"}, {"Condition": "IsReal"}]},
        },
        "Resources": {"Function": function(), "Mapping": MAPPING | {"Condition": "IsRealToo"}},
    }
    client = aws.client("cloudformation")
    client.create_stack(StackName="conditional", TemplateBody=json.dumps(template))
    [described] = client.describe_stacks(StackName="conditional")["Stacks"]
    assert described["StackStatus"] == "CREATE_COMPLETE"
