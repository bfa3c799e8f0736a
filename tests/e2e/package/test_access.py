"""Who may do what: the roles and the bucket, as compiled by `sls package`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from tests.e2e.package.packaged import SWITCHED, listed

if TYPE_CHECKING:
    from tests.e2e.package.packaged import Package

pytestmark = pytest.mark.e2e

ANY_RESOURCE = {  # the only statements of roles for which AWS takes no names
    ("StateMachineRole", "DeliverLog"),
    ("IngestRole", "NetworkInterfaces"),
    ("ReconcileRole", "NetworkInterfaces"),
}


def test_roles_name_actions_and_resources(switched: Package):
    anywhere = set()
    for role, statement in switched.statements():
        assert not [action for action in listed(statement["Action"]) if "*" in action]
        if "*" in listed(statement["Resource"]):
            anywhere.add((role, statement["Sid"]))
    assert anywhere == ANY_RESOURCE


def test_function_may_do_what_it_does_and_not_delete(prod: Package):
    assert prod.actions("IngestRole") == {
        "s3:ListBucket",
        "s3:GetObject",
        "s3:PutObject",
        "secretsmanager:GetSecretValue",
        "logs:CreateLogStream",
        "logs:PutLogEvents",
    }


def test_reconcile_reads_and_writes_what_it_found_only(prod: Package):
    bucket = "arn:${AWS::Partition}:s3:::prod-ingestion-bucket"
    allowed = {
        (
            action,
            str(statement["Resource"].get("Fn::Sub", statement["Resource"])).split(":secret:")[0],
        )
        for role, statement in prod.statements()
        if role == "ReconcileRole"
        for action in listed(statement["Action"])
    }
    log = "{'Fn::GetAtt': ['ReconcileLogGroup', 'Arn']}"
    secrets = "arn:${AWS::Partition}:secretsmanager:${AWS::Region}:${AWS::AccountId}"
    assert allowed == {
        ("s3:ListBucket", bucket),
        ("s3:GetObject", f"{bucket}/*"),
        ("s3:PutObject", f"{bucket}/reconcile/*"),
        ("secretsmanager:GetSecretValue", secrets),
        ("logs:CreateLogStream", log),
        ("logs:PutLogEvents", log),
    }


def test_secret_is_the_one_of_the_environment(prod: Package):
    resources = [
        statement["Resource"]["Fn::Sub"]
        for _, statement in prod.statements()
        if "secretsmanager:GetSecretValue" in statement["Action"]
    ]
    assert len(resources) == 2
    for resource in resources:
        assert resource.endswith(f":secret:{prod.environment['DB_SECRET_ID']}-??????")


def test_bucket(prod: Package):
    bucket = prod.properties("LandingBucket")
    assert bucket["BucketName"] == "prod-ingestion-bucket" == prod.environment["BUCKET_NAME"]
    assert bucket["VersioningConfiguration"]["Status"] == "Enabled"
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    assert list(bucket["PublicAccessBlockConfiguration"].values()) == [True] * 4
    assert bucket["OwnershipControls"]["Rules"] == [{"ObjectOwnership": "BucketOwnerEnforced"}]


def test_nothing_deletes_rows(prod: Package):
    (rule,) = prod.properties("LandingBucket")["LifecycleConfiguration"]["Rules"]
    assert set(rule) == {"Id", "Status", "AbortIncompleteMultipartUpload"}
    for name in ("LandingBucket", "LandingBucketPolicy"):
        resource = prod.resources[name]
        assert (resource["DeletionPolicy"], resource["UpdateReplacePolicy"]) == ("Retain",) * 2


def test_bucket_is_reached_by_tls_only(prod: Package):
    (statement,) = prod.properties("LandingBucketPolicy")["PolicyDocument"]["Statement"]
    assert (statement["Effect"], statement["Principal"]) == ("Deny", "*")
    assert statement["Condition"] == {"Bool": {"aws:SecureTransport": "false"}}
    assert len(statement["Resource"]) == 2


def test_kept_bucket_can_be_taken_over(switched: Package):
    name = SWITCHED["bucketName"]
    assert {"LandingBucket", "LandingBucketPolicy"} & set(switched.resources) == set()
    assert '"Ref": "LandingBucket"' not in json.dumps(switched.resources)
    resources = [
        statement["Resource"]["Fn::Sub"]
        for _, statement in switched.statements()
        if "s3:" in str(statement["Action"])
    ]
    reads = [name, f"{name}/*"]
    assert [each.rpartition(":")[2] for each in resources] == [
        *reads,
        *reads,
        f"{name}/reconcile/*",
    ]
