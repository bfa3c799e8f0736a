"""What every function must have, whichever services there are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from local.cloudwatch.log_filters import matches
from tests.e2e.package.packaged import dimensions, listed, metrics, role_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.package.packaged import Stack

KEPT_FOR_EVER = "its log has no retention"
NO_ROLE = "it has no role of its own"
ROLE_TRUSTS = "its role is for others than Lambda"
ANY_ACTION = "its role allows *"
NO_LOG = "its role cannot write its log, or can write others"
SILENT = "it does not log INFO"
NO_ERRORS_ALARM = "no alarm fires on its ERROR lines"
NO_FAILED_ALARM = "no alarm fires when it fails"


def lacking(stack: Stack, name: str) -> list[str]:
    """Return what a function lacks."""
    function = stack.functions[name]
    found = {
        KEPT_FOR_EVER: _ends(stack, function),
        NO_ERRORS_ALARM: _error_lines_are_watched(stack, name),
        NO_FAILED_ALARM: _failures_are_watched(stack, name),
        SILENT: stack.variables(name).get("POWERTOOLS_LOG_LEVEL") == "INFO",
        **_role(stack, function),
    }
    return [missing for missing, holds in found.items() if not holds]


def fires(alarm: dict[str, Any], value: float) -> bool:
    """Tell whether an alarm fires at a value."""
    threshold = alarm["Threshold"]
    if alarm["ComparisonOperator"] == "GreaterThanOrEqualToThreshold":
        return bool(value >= threshold)
    return bool(alarm["ComparisonOperator"] == "GreaterThanThreshold" and value > threshold)


def caller(stack: Stack, function: str) -> str | None:
    """Return the state machine that calls a function, if one does."""
    for name, machine in stack.of_type("AWS::StepFunctions::StateMachine").items():
        if json.dumps({"Fn::GetAtt": [function, "Arn"]}) in json.dumps(machine["DefinitionString"]):
            return name
    return None


def _group_name(stack: Stack, function: dict[str, Any]) -> str | None:
    for name, group in stack.of_type("AWS::Logs::LogGroup").items():
        if group["LogGroupName"] == f"/aws/lambda/{function['FunctionName']}":
            return name
    return None


def _ends(stack: Stack, function: dict[str, Any]) -> bool:
    """Tell whether a function's log has a retention; of a group that was kept it has its own."""
    name = _group_name(stack, function)
    if name is None:
        return not stack.has_log_groups
    return bool(stack.properties(name).get("RetentionInDays"))


def _log_arn(stack: Stack, function: dict[str, Any]) -> dict[str, Any]:
    """Return what the role must name: it waits for a group that is made."""
    name = _group_name(stack, function)
    if name is not None:
        return {"Fn::GetAtt": [name, "Arn"]}
    group = f"log-group:/aws/lambda/{function['FunctionName']}:*"
    return {"Fn::Sub": f"arn:${{AWS::Partition}}:logs:${{AWS::Region}}:${{AWS::AccountId}}:{group}"}


def _log_name(stack: Stack, function: dict[str, Any]) -> dict[str, str] | str:
    """Return what a filter must name."""
    name = _group_name(stack, function)
    return f"/aws/lambda/{function['FunctionName']}" if name is None else {"Ref": name}


def _role(stack: Stack, function: dict[str, Any]) -> dict[str, bool]:
    role = role_of(function)
    trusted = stack.properties(role)["AssumeRolePolicyDocument"]["Statement"]
    log = _log_arn(stack, function)
    logging = [
        (action, statement["Resource"])
        for statement in stack.statements_of(role)
        for action in listed(statement["Action"])
        if action.startswith("logs:")
    ]
    return {
        NO_ROLE: [role_of(each) for each in stack.functions.values()].count(role) == 1,
        ROLE_TRUSTS: [each["Principal"] for each in trusted]
        == [{"Service": "lambda.amazonaws.com"}],
        ANY_ACTION: not any("*" in action for action in stack.actions(role)),
        NO_LOG: logging == [("logs:CreateLogStream", log), ("logs:PutLogEvents", log)],
    }


def _alarms(stack: Stack, namespace: str, name: str) -> Iterator[dict[str, Any]]:
    """Yield the alarms that look at a metric and nothing else."""
    for alarm in stack.of_type("AWS::CloudWatch::Alarm").values():
        if [(each["Namespace"], each["MetricName"]) for each in metrics(alarm)] == [
            (namespace, name)
        ]:
            yield alarm


def _error_lines_are_watched(stack: Stack, name: str) -> bool:
    group = _log_name(stack, stack.functions[name])
    counted = [
        made
        for each in stack.of_type("AWS::Logs::MetricFilter").values()
        if each["LogGroupName"] == group
        and matches(each["FilterPattern"], '{"level": "ERROR"}')
        and not matches(each["FilterPattern"], '{"level": "WARNING"}')
        for made in each["MetricTransformations"]
        if made["MetricValue"] == "1"
    ]
    return any(
        fires(alarm, 1) and not dimensions(alarm)
        for made in counted
        for alarm in _alarms(stack, made["MetricNamespace"], made["MetricName"])
    )


def _failures_are_watched(stack: Stack, name: str) -> bool:
    machine = caller(stack, name)
    if machine:
        return all(
            any(
                fires(alarm, 1) and dimensions(alarm) == {"StateMachineArn": {"Ref": machine}}
                for alarm in _alarms(stack, "AWS/States", metric)
            )
            for metric in ("ExecutionsFailed", "ExecutionsTimedOut")
        )
    # Lambda repeats a call that nobody waits for by itself: one failure is no news.
    return any(
        fires(alarm, 1) and dimensions(alarm) == {"FunctionName": {"Ref": name}}
        for alarm in _alarms(stack, "AWS/Lambda", "AsyncEventsDropped")
    )
