"""The functions: whether they can be called, and are still as they were deployed; and the logs."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from tools.checks.check import Finding, skipped, unless
from tools.checks.errors import code_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tools.checks.stack import Deployment, Resource

_COMPARED: Final = ("Runtime", "Handler", "MemorySize", "Timeout")


def functions(deployment: Deployment) -> Finding:
    """Look whether each function is there, and can be called."""
    faults: dict[str, str] = {}
    names = []
    for function, found in _functions(deployment):
        names.append(function.name)
        if found is None:
            faults[f"there is no function {function.name}"] = deployment.create_again
        else:
            faults |= judge_function(function.name, found, deployment.deploy_again)
    return unless(faults, f"{', '.join(names)}: active")


def judge_function(name: str, found: Mapping[str, Any], deploy_again: str) -> dict[str, str]:
    """Return why a function can't be called, with what to do; nothing if it can."""
    state, update = found.get("State"), found.get("LastUpdateStatus")
    if state == "Pending" or update == "InProgress":
        return {f"{name} is being updated": "Wait a minute, and check again."}
    faults = {}
    if state != "Active":
        faults[f"{name} is {state}: {found.get('StateReason')}"] = f"Fix that. {deploy_again}"
    if update != "Successful":
        why = found.get("LastUpdateStatusReason")
        faults[f"{name}: its update is {update}: {why}"] = f"Fix that. {deploy_again}"
    return faults


def settings(deployment: Deployment) -> Finding:
    """Compare the settings of each function with those that were deployed."""
    there = _there(deployment)
    faults = {
        f"{function.name} has another {what}": deployment.deploy_again
        for function, found in there
        for what in differences(function.properties, found)
    }
    return unless(faults, "as they were deployed") if there else skipped("see `functions`")


def differences(deployed: Mapping[str, Any], found: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the settings that differ; values are not told.

    Args:
        deployed: the function's properties in the template.
        found: its configuration.
    """
    for name in _COMPARED:
        if deployed.get(name) != found.get(name):
            yield name
    both = (deployed, found)
    declared, given = (each.get("Environment", {}).get("Variables", {}) for each in both)
    for name in sorted(declared.keys() | given.keys()):
        if declared.get(name) != given.get(name):
            yield name
    inside, outside = (each.get("VpcConfig") or {} for each in both)
    for name in ("SubnetIds", "SecurityGroupIds"):
        if set(inside.get(name, ())) != set(outside.get(name, ())):
            yield name


def layer(deployment: Deployment) -> Finding:
    """Look whether each function has the layer, in the version that was deployed."""
    there = _there(deployment)
    faults = {}
    for function, found in there:
        wanted = {deployment.referred(each) for each in function.properties.get("Layers", ())}
        lacking = wanted - {each["Arn"] for each in found.get("Layers", ())}
        if lacking:
            names = ", ".join(sorted(arn.rpartition(":layer:")[2] for arn in lacking))
            faults[f"{function.name} lacks {names}"] = (
                f"aws lambda update-function-configuration --function-name {function.name} "
                f"--layers {' '.join(sorted(wanted))}"
            )
    fine = "attached, in the version that was deployed"
    return unless(faults, fine) if there else skipped("see `functions`")


def code(deployment: Deployment) -> Finding:
    """Compare the code of each function with the package that was deployed."""
    there, hashes, faults = _there(deployment), {}, {}
    for function, found in there:
        package = function.properties["Code"]
        key = package["S3Key"]
        if key not in hashes:
            hashes[key] = _hash_of(deployment.referred(package["S3Bucket"]), key, deployment)
        if found["CodeSha256"] != hashes[key]:
            faults[f"{function.name} runs other code than was deployed"] = deployment.deploy_again
    fine = f"deployed {', '.join(map(_time_of, hashes))}"
    return unless(faults, fine) if there else skipped("see `functions`")


def log_groups(deployment: Deployment) -> Finding:
    """Look whether each log is there, and kept for as long as was deployed."""
    faults: dict[str, str] = {}
    for group in deployment.of_type("AWS::Logs::LogGroup"):
        days = int(group.properties["RetentionInDays"])
        faults |= judge_log_group(group.name, days, _log_group(group.name, deployment))
    return unless(faults, "there, and kept for as long as was deployed")


def judge_log_group(name: str, days: int, found: Mapping[str, Any] | None) -> dict[str, str]:
    """Return what is wrong with a log group, with what to do; nothing if it is fine."""
    keep = f"aws logs put-retention-policy --log-group-name {name} --retention-in-days {days}"
    if found is None:
        return {f"there is no {name}": f"aws logs create-log-group --log-group-name {name}; {keep}"}
    kept = found.get("retentionInDays")
    if kept != days:
        said = f"for {kept} days" if kept else "for ever"
        return {f"{name} is kept {said}, not for {days} days": keep}
    return {}


def _functions(deployment: Deployment) -> Iterator[tuple[Resource, dict[str, Any] | None]]:
    client = deployment.client("lambda")
    for function in deployment.of_type("AWS::Lambda::Function"):
        try:
            yield function, client.get_function_configuration(FunctionName=function.name)
        except ClientError as error:
            if code_of(error) != "ResourceNotFoundException":
                raise
            yield function, None


def _there(deployment: Deployment) -> list[tuple[Resource, dict[str, Any]]]:
    return [(function, found) for function, found in _functions(deployment) if found]


def _hash_of(bucket: str, key: str, deployment: Deployment) -> str:
    """Return the hash of a package as Lambda spells it."""
    body = deployment.client("s3").get_object(Bucket=bucket, Key=key)["Body"].read()
    return base64.b64encode(hashlib.sha256(body).digest()).decode()


def _time_of(key: str) -> str:
    """Return when a package was uploaded, by its key.

    >>> _time_of("serverless/x/prod/1795745854315-2026-11-27T02:17:34.315Z/x.zip")
    '2026-11-27T02:17:34'
    """
    found = re.search(r"/\d+-([\dT:-]+)\.\d+Z/", key)
    return found[1] if found else key


def _log_group(name: str, deployment: Deployment) -> dict[str, Any] | None:
    found = deployment.client("logs").describe_log_groups(logGroupNamePrefix=name)["logGroups"]
    return next((each for each in found if each["logGroupName"] == name), None)


CHECKS: Final = {
    "functions": functions,
    "function settings": settings,
    "layer": layer,
    "code": code,
    "log groups": log_groups,
}
