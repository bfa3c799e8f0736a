"""Who deploys: resources/deployer/policy.json is enough for what the template has, and no more."""

from __future__ import annotations

import json
import re
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cfnlint
import pytest

from tests.e2e.package.packaged import REPOSITORY, listed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.package.packaged import Package, Stack

pytestmark = pytest.mark.e2e

DEPLOYER = REPOSITORY / "resources" / "deployer"
POLICY: dict[str, Any] = json.loads((DEPLOYER / "policy.json").read_text())
STACK = "totesys-ingestion-prod"
# The examples of the policy, in ARNs as AWS makes them.
HERE = "eu-west-2:123456789012"
ZIPS = f"arn:aws:s3:::{STACK}-serverlessdeploymentbucket-1x2y3z4a5b6c"
ROLE = f"arn:aws:iam::123456789012:role/{STACK}-IngestRole-1X2Y3Z4A5B6C"
LAYER = f"arn:aws:lambda:{HERE}:layer:{STACK}-pandas-pg8000:7"
LARGEST = 6_144  # what IAM takes as a managed policy, without spaces

# For these AWS takes no names: https://docs.aws.amazon.com/service-authorization/latest/reference/
NAMELESS = {
    "cloudformation:ValidateTemplate",
    "cloudwatch:DescribeAlarms",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSecurityGroups",
    "ec2:DescribeSubnets",
    "ec2:DescribeVpcs",
    "logs:DescribeIndexPolicies",
    "logs:DescribeLogGroups",
    "sns:GetSubscriptionAttributes",
    "sns:SetSubscriptionAttributes",
    "sns:Unsubscribe",
}
# What CloudFormation says that a type may need, and ours don't: properties that we don't set.
NOT_OURS = [
    # Names that IAM does not have; the Put actions allow what they say.
    *("s3:PutBucketReplication", "s3:DeleteBucketEncryption", "s3:DeleteBucketLifecycle"),
    "s3:REST.PUT.OBJECT",
    # Buckets: replication, websites, inventories, metrics, analytics, ACLs, locks, tables.
    *("s3tables:*", "s3:*Table*Configuration", "s3:DeleteBucket?*Configuration"),
    *("s3:PutBucketAbac", "s3:PutBucketA[cC][lL]", "s3:PutBucketCORS", "s3:PutBucketLogging"),
    *("s3:PutBucketNotification", "s3:PutBucketObjectLockConfiguration", "s3:PutBucketWebsite"),
    *("s3:PutAccelerateConfiguration", "s3:PutAnalyticsConfiguration", "s3:PutObjectAcl"),
    *("s3:PutIntelligentTieringConfiguration", "s3:PutInventoryConfiguration"),
    *("s3:PutMetricsConfiguration", "s3:PutObjectLockConfiguration"),
    *("s3:PutReplicationConfiguration", "s3:DeleteBucketCors", "s3:DeleteBucketReplication"),
    "s3:DeleteBucketWebsite",
    # Functions: a key, a file system, signed code, capacity of one's own.
    "kms:*",
    *("elasticfilesystem:*", "s3files:*", "lambda:GetCodeSigningConfig"),
    *("lambda:PassCapacityProvider", "lambda:AssociateRuntimeAlias"),
    # Roles: managed policies and boundaries.
    *("iam:AttachRolePolicy", "iam:DetachRolePolicy", "iam:*RolePermissionsBoundary"),
    # Log groups: keys, data protection, their delivery, resource policies.
    *("firehose:*", "logs:CreateLogDelivery", "logs:*ResourcePolic*"),
]
# Calls of the framework in what people run: deploy, deploy list, info, remove and rollback.
FRAMEWORK = ["deploy", "deploy/lib", "lib", "remove", "remove/lib", "info", "package/lib"]
FRAMEWORK_FILES = ["rollback.js", "deletion-protection.js", "deploy-list.js"]
CALLS = {
    "CreateStack": "cloudformation:CreateStack",
    "DeleteStack": "cloudformation:DeleteStack",
    "DescribeStackEvents": "cloudformation:DescribeStackEvents",
    "DescribeStackResource": "cloudformation:DescribeStackResource",
    "DescribeStacks": "cloudformation:DescribeStacks",
    "GetTemplate": "cloudformation:GetTemplate",
    "ListStackResources": "cloudformation:ListStackResources",
    "UpdateStack": "cloudformation:UpdateStack",
    "UpdateTerminationProtection": "cloudformation:UpdateTerminationProtection",
    "ValidateTemplate": "cloudformation:ValidateTemplate",
    "GetFunction": "lambda:GetFunction",
    "HeadBucket": "s3:ListBucket",
    "ListObjectsV2": "s3:ListBucket",
    "HeadObject": "s3:GetObject",
    "GetObject": "s3:GetObject",
    "DeleteObjects": "s3:DeleteObject",
    "Upload": "s3:PutObject",
}
NOT_CALLED = {
    # With `deploymentMethod: changesets` or a stack policy.
    *("CreateChangeSet", "DescribeChangeSet", "ExecuteChangeSet", "DeleteChangeSet"),
    "SetStackPolicy",
    # With images, versions in the deployment bucket, API Gateway, subscriptions, custom resources.
    *("DescribeRepositories", "DeleteRepository", "ListObjectVersions", "GetApiKey", "GetApi"),
    *("DescribeSubscriptionFilters", "DeleteSubscriptionFilter", "ListExports"),
    *("DescribeStackResources", "ListVersionsByFunction"),
}


@cache
def demanded(kind: str) -> frozenset[str]:
    """Return the actions that CloudFormation says it may need for a type of resource."""
    schemas = Path(cfnlint.__file__).parent / "data" / "schemas"
    names = json.loads((schemas / "providers" / "eu-west-2.json").read_text())
    schema = json.loads((schemas / "resources" / f"{names[kind]}.json").read_text())
    return frozenset(
        action
        for handler in ("create", "read", "update", "delete")
        for action in schema["handlers"].get(handler, {}).get("permissions", [])
    )


def needed(kind: str) -> set[str]:
    """Return those that our properties need."""
    return {
        action
        for action in demanded(kind)
        if not any(fnmatchcase(action, pattern) for pattern in NOT_OURS)
    } | ({"iam:ListRoleTags"} if kind == "AWS::IAM::Role" else set())


def own_arn(name: str, resource: dict[str, Any]) -> str:
    """Return the ARN of a resource, as AWS makes it from its names."""
    kind, properties = resource["Type"], resource["Properties"]
    bucket = properties.get("BucketName") or (
        "prod-ingestion-bucket" if "Landing" in name else ZIPS.rpartition(":")[2]
    )
    arns = {
        "AWS::S3::Bucket": f"arn:aws:s3:::{bucket}",
        "AWS::S3::BucketPolicy": f"arn:aws:s3:::{bucket}",
        "AWS::Lambda::Function": f"arn:aws:lambda:{HERE}:function:{properties.get('FunctionName')}",
        "AWS::Lambda::Permission": f"arn:aws:lambda:{HERE}:function:{STACK}-reconcile",
        "AWS::Lambda::LayerVersion": f"arn:aws:lambda:{HERE}:layer:{properties.get('LayerName')}",
        "AWS::IAM::Role": f"arn:aws:iam::123456789012:role/{STACK}-{name}-1X2Y3Z4A5B6C",
        "AWS::Logs::LogGroup": f"arn:aws:logs:{HERE}:log-group:{properties.get('LogGroupName')}",
        "AWS::Logs::MetricFilter": f"arn:aws:logs:{HERE}:log-group:/aws/lambda/{STACK}-ingest",
        "AWS::CloudWatch::Alarm": f"arn:aws:cloudwatch:{HERE}:alarm:{properties.get('AlarmName')}",
        "AWS::CloudWatch::Dashboard": (
            f"arn:aws:cloudwatch::123456789012:dashboard/{properties.get('DashboardName')}"
        ),
        "AWS::SNS::Topic": f"arn:aws:sns:{HERE}:{properties.get('TopicName')}",
        "AWS::SNS::TopicPolicy": f"arn:aws:sns:{HERE}:{STACK}-alarms",
        "AWS::SNS::Subscription": f"arn:aws:sns:{HERE}:{STACK}-alarms",
        "AWS::Events::Rule": f"arn:aws:events:{HERE}:rule/{STACK}-{name}-1X2Y3Z4A5B6C",
        "AWS::StepFunctions::StateMachine": (
            f"arn:aws:states:{HERE}:stateMachine:{properties.get('StateMachineName')}"
        ),
    }
    return arns[kind]


def target(action: str, own: str) -> str:
    """Return what an action is done to, for a resource with this ARN."""
    if action in NAMELESS:
        return "*"
    if action.startswith(("s3:GetObject", "s3:DeleteObject", "s3:PutObject")):
        return f"{ZIPS}/serverless/totesys-ingestion/prod/1/totesys-ingestion.zip"
    if action == "lambda:GetLayerVersion":
        return LAYER
    if action.startswith("iam:") and ":role/" not in own:
        return ROLE
    return own


def is_allowed(action: str, arn: str) -> bool:
    """Tell whether the policy allows an action; `*` is allowed by `*` only."""
    return any(
        any(fnmatchcase(action.lower(), each.lower()) for each in listed(statement["Action"]))
        and any(fnmatchcase(arn, each) for each in listed(statement["Resource"]))
        for statement in POLICY["Statement"]
    )


def called() -> Iterator[str]:
    """Yield the calls that the framework's code has."""
    folder = REPOSITORY / "node_modules" / "serverless" / "lib" / "plugins" / "aws"
    assert (folder / "deploy" / "index.js").exists()
    files = [path for each in FRAMEWORK for path in (folder / each).glob("*.js")]
    for path in files + [folder / name for name in FRAMEWORK_FILES]:
        text = path.read_text()
        yield from re.findall(r"new ([A-Z]\w+)Command\(", text)
        yield from re.findall(r"new (Upload)\(", text)


def test_every_resource_can_be_made_read_changed_and_deleted(prod: Stack, switched: Stack):
    for stack in (prod, switched):
        refused = [
            (name, action)
            for name, resource in stack.template["Resources"].items()
            for action in needed(resource["Type"])
            if not is_allowed(action, target(action, own_arn(name, in_prod(resource))))
        ]
        assert refused == []


def in_prod(resource: dict[str, Any]) -> dict[str, Any]:
    """Return a resource of the stage dev as that of prod: the policy is for one stage."""
    text = re.sub(r"\b(totesys-ingestion-|states/)dev\b", r"\1prod", json.dumps(resource))
    text = text.replace('"dev-', '"prod-').replace("bucket-of-somebody", "prod-ingestion-bucket")
    found: dict[str, Any] = json.loads(text)
    return found


def test_the_framework_can_call_what_it_calls():
    calls = set(called())
    assert calls == set(CALLS) | NOT_CALLED
    stack = f"arn:aws:cloudformation:{HERE}:stack/{STACK}/1234abcd-12ab"
    owned = {"cloudformation": stack, "lambda": f"arn:aws:lambda:{HERE}:function:{STACK}-ingest"}
    for action in CALLS.values():
        own = owned.get(action.partition(":")[0], ZIPS)
        assert is_allowed(action, target(action, own)), action


def test_nothing_of_others_may_be_touched():
    for action, arn in {
        "lambda:UpdateFunctionCode": f"arn:aws:lambda:{HERE}:function:payroll-prod-pay",
        "s3:PutBucketPolicy": "arn:aws:s3:::somebody",
        "iam:PutRolePolicy": "arn:aws:iam::123456789012:role/admin",
        "iam:PassRole": "arn:aws:iam::123456789012:role/admin",
        "cloudformation:DeleteStack": f"arn:aws:cloudformation:{HERE}:stack/payroll/1234",
        "s3:GetObject": "arn:aws:s3:::prod-ingestion-bucket/address/1.jsonl",
        "s3:DeleteObject": "arn:aws:s3:::prod-ingestion-bucket/address/1.jsonl",
        "secretsmanager:GetSecretValue": f"arn:aws:secretsmanager:{HERE}:secret:prod/totesys-1",
    }.items():
        assert not is_allowed(action, arn), action


def test_any_resource_is_for_actions_that_take_no_names(package: Package):
    anywhere = {
        action
        for statement in POLICY["Statement"]
        if "*" in listed(statement["Resource"])
        for action in listed(statement["Action"])
    }
    assert anywhere == NAMELESS
    used = {action for kind in kinds(package) for action in demanded(kind)} | set(CALLS.values())
    services = {action.partition(":")[0] for action in used}
    allowed = {
        action.partition(":")[0]
        for statement in POLICY["Statement"]
        for action in listed(statement["Action"])
    }
    assert allowed <= services


def kinds(stack: Stack) -> set[str]:
    return {resource["Type"] for resource in stack.template["Resources"].values()}


def test_roles_are_passed_to_those_who_take_them(package: Package):
    (statement,) = (each for each in POLICY["Statement"] if each["Action"] == "iam:PassRole")
    trusted = {
        each["Principal"]["Service"]
        for role in package.of_type("AWS::IAM::Role").values()
        for each in role["AssumeRolePolicyDocument"]["Statement"]
    }
    passed = statement["Condition"]["StringEquals"]["iam:PassedToService"]
    assert sorted(passed) == sorted(trusted)


def test_iam_takes_the_policy():
    assert len(json.dumps(POLICY, separators=(",", ":"))) <= LARGEST


def test_what_is_left_out_is_still_demanded(package: Package):
    actions = {action for kind in kinds(package) for action in demanded(kind)}
    unused = [
        pattern
        for pattern in NOT_OURS
        if not any(fnmatchcase(action, pattern) for action in actions)
    ]
    assert unused == []


def test_github_is_trusted_for_one_environment_of_one_repository():
    (statement,) = json.loads((DEPLOYER / "trust.json").read_text())["Statement"]
    assert statement["Action"] == "sts:AssumeRoleWithWebIdentity"
    condition = statement["Condition"]
    assert set(condition) == {"StringEquals"}  # without wildcards
    claims = {key.rpartition(":")[2]: value for key, value in condition["StringEquals"].items()}
    assert claims["aud"] == "sts.amazonaws.com"
    assert re.fullmatch(r"repo:[\w-]+@\d+/[\w-]+@\d+:environment:prod", claims["sub"])
