"""Who may do what: the roles and the bucket, as compiled by `sls package`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.package.packaged import SWITCHED, listed, role_of

if TYPE_CHECKING:
    from tests.e2e.package.packaged import Stack

pytestmark = pytest.mark.e2e

# https://docs.aws.amazon.com/step-functions/latest/dg/cw-logs.html
DELIVER_LOG = {
    "logs:CreateLogDelivery",
    "logs:GetLogDelivery",
    "logs:UpdateLogDelivery",
    "logs:DeleteLogDelivery",
    "logs:ListLogDeliveries",
    "logs:PutResourcePolicy",
    "logs:DescribeResourcePolicies",
    "logs:DescribeLogGroups",
}


def in_vpc(stack: Stack) -> set[str]:
    """The roles of the functions that are in a VPC."""
    return {role_of(each) for each in stack.functions.values() if "VpcConfig" in each}


def test_roles_name_actions_and_resources(prod: Stack, switched: Stack):
    for stack in (prod, switched):
        anywhere = set()
        for role, statement in stack.statements():
            assert statement["Effect"] == "Allow"
            assert not [action for action in listed(statement["Action"]) if "*" in action]
            if "*" in listed(statement["Resource"]):
                anywhere.add((role, statement["Sid"]))
        # The only statements for which AWS takes no names.
        machines = stack.of_type("AWS::StepFunctions::StateMachine").values()
        assert anywhere == {
            *((machine["RoleArn"]["Fn::GetAtt"][0], "DeliverLog") for machine in machines),
            *((role, "NetworkInterfaces") for role in in_vpc(stack)),
        }


def test_the_schedule_may_start_its_state_machine_and_nothing_else(prod: Stack):
    (statement,) = prod.statements_of("ScheduleRole")
    assert listed(statement["Action"]) == ["states:StartExecution"]
    assert statement["Resource"] == {"Ref": "IngestionStateMachine"}
    assert trusted(prod, "ScheduleRole") == {"Service": "events.amazonaws.com"}


def test_the_state_machine_may_call_its_functions_write_its_log_and_nothing_else(prod: Stack):
    assert prod.actions("StateMachineRole") == {"lambda:InvokeFunction", *DELIVER_LOG}
    (call,) = (
        each
        for each in prod.statements_of("StateMachineRole")
        if "lambda:InvokeFunction" in listed(each["Action"])
    )
    assert listed(call["Action"]) == ["lambda:InvokeFunction"]
    called = [resource["Fn::GetAtt"][0] for resource in call["Resource"]]
    assert called == ["IngestLambdaFunction", "ReconcileLambdaFunction"]
    assert trusted(prod, "StateMachineRole") == {"Service": "states.amazonaws.com"}
    (taken,) = prod.properties("StateMachineRole")["AssumeRolePolicyDocument"]["Statement"]
    assert taken["Condition"] == {"StringEquals": {"aws:SourceAccount": {"Ref": "AWS::AccountId"}}}
    machine = prod.properties("IngestionStateMachine")
    assert machine["RoleArn"] == {"Fn::GetAtt": ["StateMachineRole", "Arn"]}


def test_the_load_may_call_ingest_start_and_stop_its_items_and_nothing_else(prod: Stack):
    items = {"states:StartExecution", "states:DescribeExecution", "states:StopExecution"}
    assert prod.actions("LoadRole") == {"lambda:InvokeFunction", *items, *DELIVER_LOG}
    allowed = {
        (action, str(resource.get("Fn::Sub") or resource["Fn::GetAtt"]).rpartition(":states:")[2])
        for statement in prod.statements_of("LoadRole")
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
        if resource != "*"
    }
    here = "${AWS::Region}:${AWS::AccountId}"
    ended = {"states:DescribeExecution", "states:StopExecution"}
    executions = {f"{here}:execution:prod-load:*", f"{here}:execution:prod-load/Load:*"}
    assert allowed == {
        ("lambda:InvokeFunction", "['IngestLambdaFunction', 'Arn']"),
        ("states:StartExecution", f"{here}:stateMachine:prod-load"),
        *((action, resource) for action in ended for resource in executions),
    }
    assert trusted(prod, "LoadRole") == {"Service": "states.amazonaws.com"}
    machine = prod.properties("LoadStateMachine")
    assert machine["RoleArn"] == {"Fn::GetAtt": ["LoadRole", "Arn"]}
    assert machine["StateMachineName"] == "prod-load"
    # What the role names is what the executions of the items are called after.
    assert prod.definition_of("LoadStateMachine")["States"]["Load"]["Label"] == "Load"


def trusted(stack: Stack, role: str) -> dict[str, str]:
    """Who may take a role."""
    (statement,) = stack.properties(role)["AssumeRolePolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Action"]) == ("Allow", "sts:AssumeRole")
    principal: dict[str, str] = statement["Principal"]
    return principal


def test_function_may_do_what_it_does_and_not_delete(prod: Stack):
    assert prod.actions("IngestRole") == {
        "s3:ListBucket",
        "s3:ListBucketVersions",
        "s3:GetObject",
        "s3:GetObjectVersion",
        "s3:PutObject",
        "secretsmanager:GetSecretValue",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }


def test_reconcile_reads_and_writes_what_it_found_only(prod: Stack):
    bucket = "arn:${AWS::Partition}:s3:::prod-ingestion-bucket"
    allowed = {
        (action, str(resource.get("Fn::Sub", resource)).split(":secret:")[0])
        for role, statement in prod.statements()
        if role == "ReconcileRole"
        for action in listed(statement["Action"])
        for resource in listed(statement["Resource"])
    }
    log = "{'Fn::GetAtt': ['ReconcileLogGroup', 'Arn']}"
    secrets = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}"
    assert allowed == {
        ("s3:ListBucket", bucket),
        ("s3:GetObject", f"{bucket}/*"),
        ("s3:PutObject", f"{bucket}/reconcile/*"),
        ("s3:PutObject", f"{bucket}/inventory/*"),
        ("s3:PutObject", f"{bucket}/changes/*"),
        ("s3:PutObject", f"{bucket}/changes/*/latest.json"),
        ("secretsmanager:GetSecretValue", secrets),
        ("logs:CreateLogStream", log),
        ("logs:PutLogEvents", log),
    }


def test_a_role_reads_the_secret_in_the_environment_and_no_other(prod: Stack, switched: Stack):
    for stack in (prod, switched):
        for name, function in stack.functions.items():
            secret = stack.variables(name).get("DB_SECRET_ID")
            granted = [
                statement["Resource"]["Fn::Sub"].partition(":secret:")[2]
                for statement in stack.statements_of(role_of(function))
                if "secretsmanager:GetSecretValue" in listed(statement["Action"])
            ]
            assert granted == ([f"{secret}-??????"] if secret else [])


def test_bucket(prod: Stack):
    bucket = prod.properties("LandingBucket")
    assert bucket["BucketName"] == "prod-ingestion-bucket" == prod.environment["BUCKET_NAME"]
    assert bucket["VersioningConfiguration"]["Status"] == "Enabled"
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert list(bucket["PublicAccessBlockConfiguration"].values()) == [True] * 4
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]


def test_nothing_deletes_rows(prod: Stack):
    uploads, inventories = prod.properties("LandingBucket")["LifecycleConfiguration"]["Rules"]
    assert set(uploads) == {"Id", "Status", "AbortIncompleteMultipartUpload"}
    assert set(inventories) == {"Id", "Status", "Prefix", "NoncurrentVersionExpiration"}
    assert inventories["Prefix"] == "inventory/"
    for name in ("LandingBucket", "LandingBucketPolicy"):
        resource = prod.resources[name]
        kept = resource["DeletionPolicy"], resource["UpdateReplacePolicy"]
        # A first deployment that is rolled back leaves nothing in the way of the next one.
        assert kept == ("RetainExceptOnCreate", "Retain")


def test_bucket_is_reached_by_tls_only(prod: Stack):
    (statement,) = prod.properties("LandingBucketPolicy")["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert statement["Action"] == "s3:*"
    assert prod.properties("LandingBucketPolicy")["Bucket"] == {"Ref": "LandingBucket"}
    assert statement["Resource"] == [
        {"Fn::GetAtt": ["LandingBucket", "Arn"]},
        {"Fn::Sub": "${LandingBucket.Arn}/*"},
    ]


def test_kept_bucket_can_be_taken_over(switched: Stack):
    assert {"LandingBucket", "LandingBucketPolicy"} & set(switched.resources) == set()
    assert '"Ref": "LandingBucket"' not in json.dumps(switched.resources)
    for name, function in switched.functions.items():
        assert switched.variables(name)["BUCKET_NAME"] == SWITCHED["bucketName"]
        buckets = [
            resource["Fn::Sub"].rpartition(":")[2].partition("/")[0]
            for statement in switched.statements_of(role_of(function))
            if "s3:" in str(statement["Action"])
            for resource in listed(statement["Resource"])
        ]
        assert set(buckets) == {SWITCHED["bucketName"]}
