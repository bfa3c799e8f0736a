"""Which triggers of a template the stand-in can't fire. They are refused: they would do nothing.

A trigger names a function or a state machine in order to start it. So whatever names one is taken
for a trigger, but for the types of resources of which it is known that they only mention it.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import Stack

from local.aws.moto_patches import replace
from local.aws.template import decided
from local.aws.triggers import EXECUTIONS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    type Resources = Mapping[str, dict[str, Any]]

_STARTED = {
    "AWS::Lambda::Alias",
    "AWS::Lambda::Function",
    "AWS::Lambda::Version",
    "AWS::StepFunctions::StateMachine",
}
# The properties by which a resource starts what they name; of all other types it is any of them.
_STARTING: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(
        ("AWS::CloudWatch::Alarm", "AWS::CloudWatch::CompositeAlarm"),
        ("AlarmActions", "OKActions", "InsufficientDataActions"),
    ),
    "AWS::Lambda::EventInvokeConfig": ("DestinationConfig",),
    **dict.fromkeys(
        (
            *_STARTED,
            "AWS::CloudWatch::Dashboard",
            "AWS::IAM::ManagedPolicy",
            "AWS::IAM::Policy",
            "AWS::IAM::Role",
            "AWS::Logs::LogGroup",
            "AWS::Logs::MetricFilter",
        ),
        (),
    ),
}
# What rules may have as targets, by type or by the service in the ARN; first those of a schedule.
_SCHEDULED = _STARTED | {"lambda", "states"}
_TARGETS = _SCHEDULED | {"AWS::SQS::Queue", "AWS::Logs::LogGroup", "sqs", "logs"}
# moto has no event for a delete marker, which is all that a delete in a bucket with versions makes.
_OBJECT_EVENTS = "s3:ObjectCreated:"
_CALLERS = {"events.amazonaws.com", "s3.amazonaws.com", "states.amazonaws.com"}
_REMEDY = (
    "It fires rules for events of executions, of buckets and of your own (PutEvents), schedules of "
    "rules, and notifications of buckets about objects that were created. Use one of these, or "
    "give the trigger a condition that leaves it out of this stage."
)


def refuse_what_is_not_fired() -> None:
    """Let stacks fail whose template has triggers that would do nothing here."""
    parse = Stack._parse_template

    def parse_and_check(self: Stack) -> None:
        parse(self)
        if found := unfired(decided(self.template_dict["Resources"], self.template_dict)):
            listed = "".join(f"\n- {each}" for each in found)
            message = f"The stand-in for AWS can't fire what this template declares:{listed}\n"
            raise ValidationError(message=message + _REMEDY)

    replace(Stack, "_parse_template", parse_and_check)


def unfired(resources: Resources) -> list[str]:
    """Return which triggers are not fired, each with what is wrong with it.

    Args:
        resources: of a template, whose conditions are decided.
    """
    return [
        f"{name} ({resource['Type']}) {fault}"
        for name, resource in resources.items()
        for fault in _faults(resource["Type"], resource.get("Properties", {}), resources)
    ]


def _faults(kind: str, properties: Mapping[str, Any], resources: Resources) -> Iterator[str]:
    if kind == "AWS::Events::Rule":
        yield from _faults_of_rule(properties, resources)
    elif kind == "AWS::S3::Bucket":
        yield from _faults_of_bucket(properties.get("NotificationConfiguration", {}))
    elif kind == "AWS::Lambda::Permission":
        if str(properties["Principal"]) not in _CALLERS:
            yield f"lets {properties['Principal']} call a function"
    else:
        starting = [properties.get(each) for each in _STARTING.get(kind, properties)]
        yield from (f"starts {name}" for name in sorted(_started(starting, resources)))


def _faults_of_rule(rule: Mapping[str, Any], resources: Resources) -> Iterator[str]:
    pattern = rule.get("EventPattern", {})
    sources = [each for each in pattern.get("source", []) if isinstance(each, str)]
    of_aws = {each for each in sources if each.startswith("aws.")}
    yield from (f"waits for events of {each}" for each in sorted(of_aws - {"aws.states", "aws.s3"}))
    kinds = [each for each in pattern.get("detail-type", []) if isinstance(each, str)]
    if set(sources) == {"aws.states"}:
        yield from (f'waits for "{each}"' for each in kinds if each != EXECUTIONS)
    known = _SCHEDULED if "ScheduleExpression" in rule else _TARGETS
    for target in rule.get("Targets", []):
        if not _kinds(target["Arn"], resources) & known:
            yield f"has the target {target['Arn']}"
        if "InputTransformer" in target:  # moto's loses types, and whatever is not there
            yield "has an InputTransformer; InputPath and Input work"


def _faults_of_bucket(notifications: Mapping[str, Any]) -> Iterator[str]:
    for configurations in notifications.values():
        for each in configurations if isinstance(configurations, list) else []:
            if not each["Event"].startswith(_OBJECT_EVENTS):
                yield f"notifies of {each['Event']}"


def _kinds(arn: Any, resources: Resources) -> set[str]:
    """Return the types of the resources that an ARN names, or the service in its text."""
    named = {resources[name]["Type"] for name in _names(arn) if name in resources}
    text = arn.get("Fn::Sub") if isinstance(arn, dict) else arn
    if named or not isinstance(text, str):
        return named
    return set(re.sub(r"\$\{[^}]*\}", "", text).split(":")[2:3])


def _started(node: Any, resources: Resources) -> set[str]:
    return {name for name in _names(node) if resources.get(name, {}).get("Type") in _STARTED}


def _names(node: Any) -> Iterator[str]:
    """Yield the logical names that a part of a template refers to."""
    if isinstance(node, list):
        for each in node:
            yield from _names(each)
    elif isinstance(node, dict):
        for key, value in node.items():
            if key in {"Ref", "Fn::GetAtt"}:
                yield (value if isinstance(value, str) else value[0]).split(".")[0]
            elif key == "Fn::Sub":
                text = value if isinstance(value, str) else value[0]
                yield from re.findall(r"\$\{(\w+)", text)
                yield from _names(value)
            else:
                yield from _names(value)
