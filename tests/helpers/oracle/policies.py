"""What roles.yml grants, what calls of AWS need, and whether the grants cover the needs."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from unittest.mock import patch

import yaml
from botocore.client import BaseClient
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

ROLES = Path(__file__).resolve().parents[3] / "resources" / "roles.yml"


class Need(NamedTuple):
    """An action that must be allowed on a resource; `creates` if it has If-None-Match."""

    action: str
    resource: str
    creates: bool = False


@dataclass(frozen=True)
class Grant:
    """An action that a statement allows; `creates_only` if it demands If-None-Match."""

    sid: str
    action: str
    resource: str
    creates_only: bool = False

    def covers(self, need: Need) -> bool:
        """Tell whether the statement allows what is needed."""
        return (
            self.action == need.action
            and fnmatchcase(need.resource, self.resource)
            and (need.creates or not self.creates_only)
        )


def grants_of(role: str, values: Mapping[str, str], more: str = "") -> list[Grant]:
    """Return what a role grants, in a VPC.

    Args:
        role: its logical name.
        values: of params and pseudo parameters.
        more: what is appended to roles.yml.
    """
    policies = yaml.safe_load(ROLES.read_text() + more)[role]["Properties"]["Policies"]
    return [
        Grant(
            statement["Sid"],
            action,
            _resource(resource, values),
            _creates_only(statement.get("Condition")),
        )
        for policy in policies
        for statement in policy.get("Fn::If", [None, policy])[1]["PolicyDocument"]["Statement"]
        for action in _listed(statement["Action"])
        for resource in _listed(statement["Resource"])
    ]


def _resource(resource: Any, values: Mapping[str, str]) -> str:
    if isinstance(resource, str):
        return resource
    if "Fn::If" in resource:
        return _resource(resource["Fn::If"][1], values)
    if "Fn::GetAtt" in resource:
        return ".".join(resource["Fn::GetAtt"])
    return re.sub(r"\$\{([^}]+)\}", lambda name: values[name[1]], resource["Fn::Sub"])


def _creates_only(condition: Any) -> bool:
    if condition is None:
        return False
    switch, on, _ = condition["Fn::If"]
    assert (switch, on) == ("CreatesOnly", {"Null": {"s3:if-none-match": "false"}})
    return True


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def refused(needs: Collection[Need], grants: Collection[Grant]) -> set[Need]:
    """Return which needs nothing grants."""
    return {need for need in needs if not any(grant.covers(need) for grant in grants)}


def spare(needs: Collection[Need], grants: Sequence[Grant]) -> list[Grant]:
    """Return the grants that no need depends on."""
    return [
        grant
        for number, grant in enumerate(grants)
        if refused(needs, [*grants[:number], *grants[number + 1 :]]) == refused(needs, grants)
    ]


@contextmanager
def recorded() -> Iterator[set[Need]]:
    """Collect what the calls of AWS need that any client makes meanwhile."""
    needs: set[Need] = set()
    call = BaseClient._make_api_call  # type: ignore[attr-defined]

    def recording(client: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
        try:
            answer = call(client, operation, parameters)
        except ClientError as error:
            needs.update(_needs(client, operation, parameters, error.response))
            raise
        needs.update(_needs(client, operation, parameters, answer))
        return answer

    with patch.object(BaseClient, "_make_api_call", recording):
        yield needs


def _needs(
    client: BaseClient, operation: str, parameters: Mapping[str, Any], answer: Any
) -> Iterator[Need]:
    """Yield what a call needs; https://docs.aws.amazon.com/AmazonS3/latest/API/ says it of S3's."""
    bucket = f"arn:aws:s3:::{parameters.get('Bucket')}"
    key = f"{bucket}/{parameters.get('Key')}"
    match operation:
        case "GetSecretValue":
            yield Need("secretsmanager:GetSecretValue", answer["ARN"])
        case "ListObjectsV2":
            yield Need("s3:ListBucket", bucket)
        case "ListObjectVersions":
            yield Need("s3:ListBucketVersions", bucket)
        case "GetObject" if "VersionId" in parameters:
            yield Need("s3:GetObjectVersion", key)
        case "GetObject" | "HeadObject":
            yield Need("s3:GetObject", key)
            # Without s3:ListBucket the answer for a missing key is 403.
            if answer["ResponseMetadata"]["HTTPStatusCode"] == 404:
                yield Need("s3:ListBucket", bucket)
        case "PutObject":
            yield Need("s3:PutObject", key, "IfNoneMatch" in parameters)
            if "IfMatch" in parameters:
                yield Need("s3:GetObject", key)
        case _:  # unknown: no role grants it until it is added here
            yield Need(f"{client.meta.service_model.service_name}:{operation}", "?")
