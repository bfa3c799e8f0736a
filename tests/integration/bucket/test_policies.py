"""The functions may do what they do, and nothing else: their roles against the calls they make."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from local.totesys import add_events
from services.ingestion.handler import lambda_handler as ingest_handler
from services.reconciliation.handler import lambda_handler as reconcile_handler
from shared.bucket import keys
from shared.postgres.credentials import secrets_provider
from shared.tables import TABLES, Table
from tests.helpers.oracle import landed
from tests.helpers.oracle.policies import Need, grants_of, recorded, refused, spare
from tests.helpers.runs.lambda_context import CONTEXT
from tests.helpers.runs.place import Place

pytestmark = pytest.mark.thorough

SOME_TABLES = {"tables": ["payment", "staff"]}

# What Lambda itself does, with the function's role: it writes the log, and puts the function into
# the VPC.
BY_LAMBDA = [
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DeleteNetworkInterface",
]


def values(bucket_name, secret):
    """What stands for the params and pseudo parameters in roles.yml."""
    return {
        "AWS::Partition": "aws",
        "AWS::Region": "eu-west-2",
        "AWS::AccountId": "123456789012",  # moto's
        "param:bucketName": bucket_name,
        "param:databaseSecret": secret,
    }


@pytest.fixture
def grants(deployed, bucket):
    """Return what a role grants where the function runs."""
    return lambda role: grants_of(role, values(bucket.name, os.environ["DB_SECRET_ID"]))


def changed(totesys):
    """New rows in most tables, and a row that changes."""
    with closing(totesys.connect()) as connection:
        add_events(connection, 5)
        connection.run("UPDATE payment SET paid = NOT paid WHERE payment_id = 1")


def lose(bucket, key):
    bucket.client.delete_object(Bucket=bucket.name, Key=key)


def restoring(bucket):
    """Return what it needs to restore an object, from a version and from the source."""
    asked = {"table": "staff", "key": landed.data_keys(bucket, "staff")[0]}
    lose(bucket, asked["key"])
    with recorded() as needs:
        ingest_handler({"restore": asked}, CONTEXT)
    bucket.client.put_bucket_versioning(
        Bucket=bucket.name, VersioningConfiguration={"Status": "Enabled"}
    )
    lose(bucket, asked["key"])
    with recorded() as needs_with_versions:
        ingest_handler({"restore": asked}, CONTEXT)
    return needs | needs_with_versions


def loading(totesys):
    """Return what it needs to load a table."""
    changed(totesys)
    with recorded() as needs:
        planned = ingest_handler({"plan": {"table": "transaction"}}, CONTEXT)
        items = [ingest_handler({"land": item}, CONTEXT) for item in planned["items"]]
        ingest_handler({"finish": {"table": "transaction", "items": items}}, CONTEXT)
    assert items
    return needs


def is_exact(needs, grants):
    assert refused(needs, grants) == set()
    assert [grant.action for grant in spare(needs, grants)] == BY_LAMBDA


def test_ingest_may_do_what_it_does_and_nothing_else(grants, totesys, bucket):
    with recorded() as needs:
        ingest_handler({}, CONTEXT)  # finds nothing in the bucket
        changed(totesys)
        ingest_handler({}, CONTEXT)
    changed(totesys)
    Place(totesys, bucket, SOME_TABLES["tables"], {}).die_after_claiming()
    lose(bucket, keys.format_latest_key(Table("staff")))
    with recorded() as healing:
        ingest_handler(SOME_TABLES, CONTEXT)  # lands what is claimed, and rebuilds what is lost
    assert landed.ids(bucket, "staff")
    needs |= loading(totesys)
    is_exact(needs | healing | restoring(bucket), grants("IngestRole"))
    written = {need.resource.split("/")[1] for need in needs if need.action == "s3:PutObject"}
    assert written == {*TABLES, "claims", "changes"}


def test_reconcile_may_do_what_it_does_and_nothing_else(grants, totesys, bucket):
    ingest_handler(SOME_TABLES, CONTEXT)
    changed(totesys)
    ingest_handler(SOME_TABLES, CONTEXT)
    totesys.connect().run("DELETE FROM payment WHERE payment_id = 1")
    secrets_provider.cache_clear()  # it has a process of its own
    with recorded() as needs:
        reconcile_handler({}, CONTEXT)
    lose(bucket, landed.data_keys(bucket, "staff")[0])
    with recorded() as searching:
        report = reconcile_handler({}, CONTEXT)  # over that of before
    assert report["tables"]["staff"]["missing"]
    is_exact(needs | searching, grants("ReconcileRole"))


def test_what_has_landed_may_not_be_overwritten():
    grants = grants_of("IngestRole", values("landing", "prod/totesys"))
    rows, claim, change = (
        f"arn:aws:s3:::landing/{key}"
        for key in (
            "staff/7-2024-11-11T15-03-24.jsonl",
            "claims/staff/0.json",
            "changes/staff/0000000001.jsonl",
        )
    )
    creating = {Need("s3:PutObject", key, creates=True) for key in (rows, claim, change)}
    overwriting = {Need("s3:PutObject", key) for key in (rows, claim, change)}
    pointers = {
        Need("s3:PutObject", f"arn:aws:s3:::landing/{folder}staff/latest.json")
        for folder in ("", "changes/")
    }
    assert refused(creating | overwriting | pointers, grants) == overwriting


def test_what_is_not_granted_is_refused():
    grants = grants_of("ReconcileRole", values("landing", "prod/totesys"))
    secret = "arn:aws:secretsmanager:eu-west-2:123456789012:secret:prod/totesys"
    granted = {
        Need("s3:ListBucket", "arn:aws:s3:::landing"),
        Need("s3:PutObject", "arn:aws:s3:::landing/reconcile/2024-11-11.json"),
        Need("secretsmanager:GetSecretValue", f"{secret}-a1B2c3"),
    }
    others = {
        Need("s3:ListBucket", "arn:aws:s3:::landing/staff/"),
        Need("s3:ListBucket", "arn:aws:s3:::landing-2"),
        Need("s3:PutObject", "arn:aws:s3:::landing/staff/latest.json"),
        Need("s3:DeleteObject", "arn:aws:s3:::landing/staff/latest.json"),
        Need("s3:GetObject", "arn:aws:s3:::landing-2/staff/latest.json"),
        Need("secretsmanager:GetSecretValue", f"{secret}-2-a1B2c3"),
    }
    assert refused(granted | others, grants) == others
