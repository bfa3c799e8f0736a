"""The alarms of a stage, whatever they are called, and who is notified of them."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from tools.checks.check import Finding, failed, unless, warning

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from tools.checks.stack import Deployment

    type Alarms = Sequence[Mapping[str, Any]]

# A new alarm has no data until its metric has; an old one may watch a metric that does not exist.
_NEW: Final = timedelta(days=1)


def alarms(deployment: Deployment) -> Finding:
    """Look whether every alarm of the stack is there."""
    there = {each["AlarmName"] for each in _found(deployment)}
    remedy = (
        "Somebody deleted it, and CloudFormation believes that it is there: take it out of "
        "serverless.yml and deploy, then put it back and deploy again."
    )
    names = _names(deployment)
    return unless(
        {f"there is no alarm {name}": remedy for name in names if name not in there},
        f"{len(names)} are there",
    )


def states(deployment: Deployment) -> Finding:
    """Look which alarms are in ALARM."""
    return judge_states(_found(deployment), deployment.now)


def judge_states(found: Alarms, now: datetime) -> Finding:
    """Judge the states of alarms; the description of each says what to do."""
    fired = {
        f"{each['AlarmName']} is in ALARM": each.get("AlarmDescription", "")
        for each in found
        if each["StateValue"] == "ALARM"
    }
    if fired:
        return unless(fired, "")
    blind = {
        f"{each['AlarmName']} has had no data since {each['StateUpdatedTimestamp']:%Y-%m-%d}": (
            "Look in CloudWatch whether its metric exists; its description says what it watches."
        )
        for each in found
        if each["StateValue"] == "INSUFFICIENT_DATA" and now - each["StateUpdatedTimestamp"] > _NEW
    }
    return unless(blind, "none is in ALARM", warning)


def actions(deployment: Deployment) -> Finding:
    """Look whether each alarm that fires sends an email."""
    topics = [each.name for each in deployment.of_type("AWS::SNS::Topic")]
    return judge_actions(_found(deployment), topics)


def judge_actions(found: Alarms, topics: Collection[str]) -> Finding:
    """Judge who hears of alarms.

    Args:
        found: the alarms.
        topics: each must publish to one of these.
    """
    faults = {
        f"the actions of {name} are disabled": (
            f"aws cloudwatch enable-alarm-actions --alarm-names {name}"
        )
        for name in (each["AlarmName"] for each in found if not each["ActionsEnabled"])
    }
    for each in found:
        if each["ActionsEnabled"] and not set(topics) & set(each["AlarmActions"]):
            faults[f"nobody hears of {each['AlarmName']}"] = (
                f"Give it AlarmActions to {', '.join(topics)} in resources/alarms.yml, and "
                "deploy. If it has them there: somebody took them away, so put them back by hand."
            )
    return unless(faults, "each alarm reaches the topic")


def subscription(deployment: Deployment) -> Finding:
    """Look who gets the emails."""
    pages = deployment.client("sns").get_paginator("list_subscriptions_by_topic")
    found = [
        each
        for topic in deployment.of_type("AWS::SNS::Topic")
        for page in pages.paginate(TopicArn=topic.name)
        for each in page["Subscriptions"]
    ]
    return judge_subscriptions(found, deployment.stage.name)


def judge_subscriptions(found: Alarms, stage: str) -> Finding:
    """Judge who gets the emails: each subscription must be confirmed, and there must be one."""
    if not found:
        return failed(
            "nobody is notified: the topic has no subscription",
            "Set alarmEmail in serverless.yml, deploy, and confirm by the link in AWS's email: "
            f"npx sls deploy --stage {stage}",
        )
    pending = {
        f"{each['Endpoint']} has not confirmed ({each['SubscriptionArn']})": (
            "Confirm by the link in AWS's email. It is valid for some days; for another one: "
            f"aws sns subscribe --topic-arn {each['TopicArn']} --protocol {each['Protocol']} "
            f"--notification-endpoint {each['Endpoint']}"
        )
        for each in found
        if not each["SubscriptionArn"].startswith("arn:")  # PendingConfirmation, or Deleted
    }
    return unless(pending, f"confirmed by {', '.join(each['Endpoint'] for each in found)}")


def _names(deployment: Deployment) -> list[str]:
    return [_name(each.name) for each in deployment.of_type("AWS::CloudWatch::Alarm")]


def _name(reference: str) -> str:
    """Return the name in an alarm's ARN; names have no colons of that kind."""
    return reference.rpartition(":alarm:")[2]


def _found(deployment: Deployment) -> list[Mapping[str, Any]]:
    pages = (
        deployment.client("cloudwatch")
        .get_paginator("describe_alarms")
        .paginate(AlarmNames=_names(deployment))
    )
    return [each for page in pages for each in page["MetricAlarms"]]


CHECKS: Final = {
    "alarms": alarms,
    "alarm states": states,
    "alarm actions": actions,
    "subscription": subscription,
}
