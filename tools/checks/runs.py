"""What runs: the schedules, the state machines and their executions, the reconciliation."""

from __future__ import annotations

import json
from datetime import date, timedelta
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from shared.bucket import keys
from shared.bucket.bucket import Bucket
from tools.checks.check import Finding, failed, ok, skipped, unless, warning
from tools.checks.errors import code_of

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from tools.checks.stack import Deployment, Resource

# Three ticks, as for the alarm that waits for a heartbeat.
LATE: Final = timedelta(minutes=30)
# The reports of a night are there some minutes after 02:15, and again a day later.
_NIGHT: Final = timedelta(hours=27)
_REPORTS: Final = 7
_BY_HAND: Final = "See `schedules`, and Run it by hand in docs/operating.md."
_RULE, _MACHINE = "AWS::Events::Rule", "AWS::StepFunctions::StateMachine"


def schedules(deployment: Deployment) -> Finding:
    """Look whether the rules that start runs are enabled."""
    off = [each for each in deployment.of_type(_RULE) if not _is_deployed_enabled(each)]
    if off:
        return warning(
            "deployed with scheduleEnabled=false: nothing runs by itself",
            "Set scheduleEnabled to true in serverless.yml, and deploy.",
        )
    faults: dict[str, str] = {}
    for rule in deployment.of_type(_RULE):
        faults |= _rule_faults(rule, deployment)
    return unless(faults, f"{len(deployment.of_type(_RULE))} rules are enabled")


def _rule_faults(rule: Resource, deployment: Deployment) -> dict[str, str]:
    client = deployment.client("events")
    try:
        found = client.describe_rule(Name=rule.name)
    except ClientError as error:
        if code_of(error) != "ResourceNotFoundException":
            raise
        return {f"there is no rule {rule.name}": deployment.create_again}
    if found["State"] == "DISABLED":
        return {f"{rule.name} is disabled": f"aws events enable-rule --name {rule.name}"}
    if not client.list_targets_by_rule(Rule=rule.name)["Targets"]:
        return {f"{rule.name} starts nothing": deployment.create_again}
    return {}


def state_machines(deployment: Deployment) -> Finding:
    """Look whether the state machines are there, each with the role that it was deployed with."""
    faults: dict[str, str] = {}
    for machine in deployment.of_type(_MACHINE):
        name = machine.name.rpartition(":")[2]
        found = _describe(machine, deployment)
        role = deployment.resources[machine.properties["RoleArn"]["Fn::GetAtt"][0]].name
        if found is None:
            faults[f"there is no state machine {name}"] = deployment.create_again
        elif not found["roleArn"].endswith(f"/{role}"):
            faults[f"{name} has the role {found['roleArn']}, not {role}"] = deployment.deploy_again
    names = [each.name.rpartition(":")[2] for each in deployment.of_type(_MACHINE)]
    return unless(faults, ", ".join(names))


def _describe(machine: Resource, deployment: Deployment) -> Mapping[str, Any] | None:
    try:
        found: Mapping[str, Any] = deployment.client("stepfunctions").describe_state_machine(
            stateMachineArn=machine.name
        )
    except ClientError as error:
        if code_of(error) != "StateMachineDoesNotExist":
            raise
        return None
    return found


def last_execution(deployment: Deployment) -> Finding:
    """Look how the last execution of the schedule's state machine ended, and when."""
    machine = deployment.resources["IngestionStateMachine"]
    client = deployment.client("stepfunctions")
    try:
        found = client.list_executions(stateMachineArn=machine.name, maxResults=10)["executions"]
    except ClientError as error:
        if code_of(error) != "StateMachineDoesNotExist":
            raise
        return skipped("see `state machines`")
    ended = [each for each in found if each["status"] != "RUNNING"]
    if not ended:
        return none_yet(deployment, "execution", LATE, f"{len(found)} running")
    last = max(ended, key=lambda each: each["startDate"])
    said = client.describe_execution(executionArn=last["executionArn"])
    is_late = _is_scheduled(deployment) and deployment.now - last["stopDate"] > LATE
    return judge_execution(said, deployment.now, is_late=is_late)


def judge_execution(found: Mapping[str, Any], now: datetime, *, is_late: bool) -> Finding:
    """Judge the last execution that has ended."""
    minutes = int((now - found["stopDate"]).total_seconds()) // 60
    when = f"{minutes:,} minutes ago"
    if found["status"] != "SUCCEEDED":
        return failed(
            f"{found['status']} {when}: {found.get('error', 'no error')}",
            _message(found.get("cause", "")) or "Look at its history in Step Functions.",
        )
    if is_late:
        return failed(f"SUCCEEDED {when}, and none since", "See `schedules` and `state machines`.")
    return ok(f"SUCCEEDED {when}")


def _message(cause: str) -> str:
    """Return what the function said, which Step Functions passes on as JSON."""
    try:
        return str(json.loads(cause)["errorMessage"])
    except (ValueError, KeyError, TypeError):
        return cause


def last_reconciliation(deployment: Deployment) -> Finding:
    """Look for the newest report of the nightly reconciliation, and what it has found."""
    bucket = Bucket(deployment.client("s3"), deployment.stage.settings.bucket_name)
    today = deployment.now.date()
    for days in range(_REPORTS):
        key = keys.format_report_key((today - timedelta(days=days)).isoformat())
        if report := bucket.get(key):
            is_due = _is_scheduled(deployment)
            return judge_report(json.loads(report.body), key, today, is_due=is_due)
    return none_yet(deployment, "report", _NIGHT, f"none in {_REPORTS} days")


def judge_report(report: Mapping[str, Any], key: str, today: date, *, is_due: bool) -> Finding:
    """Judge the newest report: what it has found, and whether there is one of each night."""
    remedy = f"{key} lists them; see Reconciliation findings in docs/operating.md."
    faults = {
        f"{found[what]:,} {name} in {table}": remedy
        for table, found in report["tables"].items()
        for what, name in (("missing", "rows missing"), ("broken_objects", "objects broken"))
        if found[what]
    }
    faults |= {f"{table} was not compared": str(why) for table, why in report["failed"].items()}
    days = (today - date.fromisoformat(report["date"])).days
    if is_due and days > 1:
        faults[f"the last report is {days} days old"] = _BY_HAND
    return unless(faults, f"{key}: nothing is missing or broken")


def none_yet(deployment: Deployment, what: str, soon: timedelta, found: str) -> Finding:
    """Judge that there is none of something, which is there soon after the first deployment."""
    if deployment.age < soon or not _is_scheduled(deployment):
        return skipped(f"no {what} yet")
    return failed(f"no {what} yet: {found}", _BY_HAND)


def _is_scheduled(deployment: Deployment) -> bool:
    return all(map(_is_deployed_enabled, deployment.of_type(_RULE)))


def _is_deployed_enabled(rule: Resource) -> bool:
    return rule.properties.get("State") != "DISABLED"


CHECKS: Final = {
    "schedules": schedules,
    "state machines": state_machines,
    "last execution": last_execution,
    "last reconciliation": last_reconciliation,
}
