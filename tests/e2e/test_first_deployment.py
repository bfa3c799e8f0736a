"""A first deployment that failed is repeated by the same command, as docs/deploying.md says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local.aws.deployment import run_sls
from local.aws.stand_in import LocalAws
from local.aws.template import physical_names
from local.stage import STACK, STAGE

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.long]

BUCKET = f"{STAGE}-ingestion-bucket"
# What somebody left behind; the stack comes to it when the bucket is made.
IN_THE_WAY = f"/aws/vendedlogs/states/{STAGE}-ingestion"


@pytest.fixture
def aws() -> Iterator[LocalAws]:
    """An account in which nothing is deployed."""
    with LocalAws() as aws:
        yield aws


def bucket_names(aws: LocalAws) -> set[str]:
    return {each["Name"] for each in aws.client("s3").list_buckets()["Buckets"]}


def status(aws: LocalAws) -> str:
    [stack] = aws.client("cloudformation").describe_stacks(StackName=STACK)["Stacks"]
    return str(stack["StackStatus"])


def test_a_first_deployment_that_failed_half_way_can_be_repeated(aws, tmp_path):
    environ, logs = aws.subprocess_environ(), aws.client("logs")
    logs.create_log_group(logGroupName=IN_THE_WAY)
    with pytest.raises(RuntimeError, match="already exists"):
        run_sls("deploy", STAGE, environ, tmp_path / "failed.log")
    assert status(aws) == "UPDATE_ROLLBACK_COMPLETE"
    assert BUCKET not in bucket_names(aws)
    assert aws.client("lambda").list_functions()["Functions"] == []

    logs.delete_log_group(logGroupName=IN_THE_WAY)
    run_sls("deploy", STAGE, environ, tmp_path / "deploy.log")
    assert status(aws) == "UPDATE_COMPLETE"
    assert physical_names(aws.client("cloudformation"), STACK)["LandingBucket"] == BUCKET

    # From here on nothing deletes it: neither a removal nor a deployment that fails.
    run_sls("remove", STAGE, environ, tmp_path / "remove.log")
    assert BUCKET in bucket_names(aws)
