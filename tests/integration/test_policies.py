"""The functions may do what they do, and nothing else: their roles against the calls they make."""

from __future__ import annotations

import os
from contextlib import closing

import pytest

from local.totesys import add_events
from services.ingestion import keys
from services.ingestion.handler import lambda_handler as ingest_handler
from services.ingestion.tables import TABLES
from services.reconciliation.handler import lambda_handler as reconcile_handler
from shared.secrets import secrets_provider
from tests.helpers import landed
from tests.helpers.lambda_context import CONTEXT
from tests.helpers.policies import Need, grants_of, recorded, refused, spare
from tests.helpers.runs import Place

# What Lambda itself does, with the function's role: it writes the log, and puts the function into
# the VPC.
BY_LAMBDA = [
    "logs:CreateLogStream",
    "logs:PutLogEvents",
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DeleteNetworkInterface",
]


@pytest.fixture
def values(deployed, bucket):
    """What stands for the params and pseudo parameters in roles.yml."""
    return {
        "AWS::Partition": "aws",
        "AWS::Region": "eu-west-2",
        "AWS::AccountId": "123456789012",  # moto's
        "param:bucketName": bucket.name,
        "param:databaseSecret": os.environ["DB_SECRET_ID"],
    }


def changed(totesys):
    """New rows in most tables, and a row that changes."""
    with closing(totesys.connect()) as connection:
        add_events(connection, 5)
        connection.run("UPDATE payment SET paid = NOT paid WHERE payment_id = 1")


def lose(bucket, key):
    bucket.client.delete_object(Bucket=bucket.name, Key=key)


def is_exact(needs, grants):
    assert refused(needs, grants) == set()
    assert [grant.action for grant in spare(needs, grants)] == BY_LAMBDA


def test_ingest_may_do_what_it_does_and_nothing_else(values, totesys, bucket):
    with recorded() as needs:
        ingest_handler({}, CONTEXT)  # finds nothing in the bucket
        changed(totesys)
        ingest_handler({}, CONTEXT)
    changed(totesys)
    Place(totesys, bucket, TABLES, {}).die_after_claiming()
    lose(bucket, keys.latest_key("staff"))
    with recorded() as healing:
        ingest_handler({}, CONTEXT)  # lands what is claimed, and rebuilds what is lost
    assert landed.ids(bucket, "staff")
    is_exact(needs | healing, grants_of("IngestRole", values))
    written = {need.resource.split("/")[1] for need in needs if need.action == "s3:PutObject"}
    assert written == {*TABLES, "claims", "changes"}


def test_reconcile_may_do_what_it_does_and_nothing_else(values, totesys, bucket):
    ingest_handler({}, CONTEXT)
    changed(totesys)
    ingest_handler({}, CONTEXT)
    secrets_provider.cache_clear()  # it has a process of its own
    with recorded() as needs:
        reconcile_handler({}, CONTEXT)
    lose(bucket, landed.data_keys(bucket, "staff")[0])
    with recorded() as searching:
        report = reconcile_handler({}, CONTEXT)  # over that of before
    assert report["tables"]["staff"]["missing"]
    is_exact(needs | searching, grants_of("ReconcileRole", values))


def test_what_is_not_granted_is_refused(values, bucket):
    grants = grants_of("ReconcileRole", values)
    arn = f"arn:aws:s3:::{bucket.name}"
    secret = f"arn:aws:secretsmanager:eu-west-2:123456789012:secret:{bucket.name}/totesys"
    granted = {
        Need("s3:ListBucket", arn),
        Need("s3:PutObject", f"{arn}/reconcile/2024-11-11.json"),
        Need("secretsmanager:GetSecretValue", f"{secret}-a1B2c3"),
    }
    others = {
        Need("s3:ListBucket", f"{arn}/staff/"),
        Need("s3:ListBucket", f"{arn}-2"),
        Need("s3:PutObject", f"{arn}/staff/latest.json"),
        Need("s3:DeleteObject", f"{arn}/staff/latest.json"),
        Need("s3:GetObject", f"{arn}-2/staff/latest.json"),
        Need("secretsmanager:GetSecretValue", f"{secret}-2-a1B2c3"),
    }
    assert refused(granted | others, grants) == others
