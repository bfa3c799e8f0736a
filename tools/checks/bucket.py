"""The bucket: whose it is, and whether what lands there is safe."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from tools.checks.check import Finding, failed, ok, unless, warning
from tools.checks.errors import code_of, is_denied

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.checks.stage import Stage

_OTHER_NAME: Final = "Set bucketName in serverless.yml to a name of your own: they are global."


@dataclass(frozen=True, slots=True)
class Landing:
    """The bucket in which rows land."""

    client: Any
    name: str
    account: str


def open_bucket(stage: Stage) -> tuple[Landing | None, Finding]:
    """Look for the bucket; before the first deployment, whether its name is free."""
    landing = Landing(stage.aws.client("s3"), stage.settings.bucket_name, stage.account)
    try:
        region = landing.client.head_bucket(Bucket=landing.name).get("BucketRegion")
    except ClientError as error:
        if code_of(error) == "404":
            return None, _missing(landing.name, stage)
        if is_denied(error) and not stage.is_deployed:
            return None, failed(f"{landing.name} belongs to somebody else", _OTHER_NAME)
        raise
    if stage.creates_bucket and not stage.is_deployed:
        return landing, failed(
            f"{landing.name} exists, and the deployment would create it",
            "Set createBucket to false in serverless.yml to continue from what has landed there. "
            "If it is empty, it can be deleted instead.",
        )
    if region != stage.aws.region:
        return landing, warning(
            f"{landing.name} is in {region}, the stage in {stage.aws.region}",
            "Each run is slower, and the traffic costs. Choose a bucket in the stage's region.",
        )
    return landing, ok(f"{landing.name} in {region}")


def _missing(name: str, stage: Stage) -> Finding:
    if stage.is_deployed:
        return failed(
            f"there is no bucket {name}",
            "Somebody deleted it. Create it again, as resources/bucket.yml describes it: every "
            "table then lands from its first row.",
        )
    if stage.creates_bucket:
        return ok(f"{name} does not exist yet, the deployment creates it")
    return failed(f"there is no bucket {name}", "Set createBucket to true in serverless.yml.")


def owner(landing: Landing) -> Finding:
    """Ask whether the bucket belongs to this account; a policy may let us use another's."""
    try:
        landing.client.head_bucket(Bucket=landing.name, ExpectedBucketOwner=landing.account)
    except ClientError as error:
        if not is_denied(error):
            raise
        return failed(f"{landing.name} belongs to another account", _OTHER_NAME)
    return ok(f"account {landing.account}")


def versioning(landing: Landing) -> Finding:
    """Look whether older versions are kept, from which an object is restored."""
    found = landing.client.get_bucket_versioning(Bucket=landing.name)
    status = found.get("Status", "never enabled")
    if status == "Enabled":
        return ok("enabled")
    return failed(
        f"{status}: an object that is overwritten or deleted can't be restored",
        f"aws s3api put-bucket-versioning --bucket {landing.name} "
        "--versioning-configuration Status=Enabled",
    )


def public_access(landing: Landing) -> Finding:
    """Look whether everything public is blocked."""
    try:
        answer = landing.client.get_public_access_block(Bucket=landing.name)
        found = answer["PublicAccessBlockConfiguration"]
    except ClientError as error:
        if code_of(error) != "NoSuchPublicAccessBlockConfiguration":
            raise
        found = {}
    settings = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
    remedy = (
        f"aws s3api put-public-access-block --bucket {landing.name} "
        f"--public-access-block-configuration {','.join(f'{each}=true' for each in settings)}"
    )
    return unless({f"{each} is off": remedy for each in settings if not found.get(each)}, "blocked")


def policy(landing: Landing) -> Finding:
    """Look whether requests without TLS are denied."""
    try:
        text = landing.client.get_bucket_policy(Bucket=landing.name)["Policy"]
    except ClientError as error:
        if code_of(error) != "NoSuchBucketPolicy":
            raise
        text = "{}"
    return judge_policy(json.loads(text), landing.name)


def judge_policy(document: Mapping[str, Any], bucket: str) -> Finding:
    """Judge a bucket's policy: one statement must deny everything that comes without TLS."""
    if any(_denies_plain_text(each, bucket) for each in document.get("Statement", ())):
        return ok("requests without TLS are denied")
    return failed(
        "requests without TLS are allowed",
        "Put the policy of resources/bucket.yml onto it: "
        f"aws s3api put-bucket-policy --bucket {bucket} --policy file://policy.json",
    )


def _denies_plain_text(statement: Mapping[str, Any], bucket: str) -> bool:
    resources = {each.rpartition(":::")[2] for each in _listed(statement.get("Resource", []))}
    secure = statement.get("Condition", {}).get("Bool", {}).get("aws:SecureTransport")
    return (
        statement.get("Effect") == "Deny"
        and statement.get("Principal") in ("*", {"AWS": "*"})
        and bool({"*", "s3:*"} & set(_listed(statement.get("Action", []))))
        and {bucket, f"{bucket}/*"} <= resources
        and str(secure).lower() == "false"
    )


def _listed(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def encryption(landing: Landing) -> Finding:
    """Look how objects are encrypted."""
    found = landing.client.get_bucket_encryption(Bucket=landing.name)
    [rule] = found["ServerSideEncryptionConfiguration"]["Rules"]
    return judge_encryption(rule["ApplyServerSideEncryptionByDefault"])


def judge_encryption(found: Mapping[str, str]) -> Finding:
    """Judge a bucket's encryption: with a key of KMS, the functions need the key, too."""
    algorithm, key = found["SSEAlgorithm"], found.get("KMSMasterKeyID")
    if not key:
        return ok(algorithm)
    return warning(
        f"{algorithm}, with the key {key}",
        "Both roles in resources/roles.yml need kms:GenerateDataKey and kms:Decrypt on that key.",
    )


CHECKS: Final = {
    "bucket owner": owner,
    "bucket versioning": versioning,
    "bucket public access": public_access,
    "bucket policy": policy,
    "bucket encryption": encryption,
}
