"""A stage: its settings, from the function that is deployed or else from serverless.yml."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from services.ingestion.handler import Settings
from tools.checks.check import Finding, Outcome, failed, ok, raised
from tools.checks.errors import is_denied
from tools.declared import parameters, variables
from tools.stages import function_name, get_configuration

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.checks.account import Caller
    from tools.stages import Aws


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage.

    Attributes:
        name: its name.
        aws: the clients of its region.
        account: the number of the account.
        settings: those of the function `ingest`.
        is_deployed: whether there is that function; also if it can't be known.
        is_in_vpc: whether it runs in a VPC.
        creates_bucket: whether the stack has the bucket, by serverless.yml.
    """

    name: str
    aws: Aws
    account: str
    settings: Settings
    is_deployed: bool
    is_in_vpc: bool
    creates_bucket: bool


def open_stage(name: str, caller: Caller) -> tuple[Stage | None, Finding]:
    """Read the settings of a stage."""
    aws = caller.aws
    declared = parameters(name, aws.region)
    try:
        function = get_configuration(name, aws)
        finding = _judge(function, declared, name)
    except ClientError as error:
        if not is_denied(error):
            raise
        function, finding = None, raised(error)
    given = function["Environment"]["Variables"] if function else variables(name, aws.region)
    stage = Stage(
        name,
        aws,
        caller.account,
        Settings.from_env(given),
        is_deployed=finding.outcome is Outcome.SKIPPED or function is not None,
        is_in_vpc=_is_in_vpc(function, declared),
        creates_bucket=declared["createBucket"] == "true",
    )
    return stage, finding


def _is_in_vpc(function: Mapping[str, Any] | None, declared: Mapping[str, str]) -> bool:
    if function is None:
        return bool(declared["subnetIds"])
    return bool(function.get("VpcConfig", {}).get("SubnetIds"))


def _judge(function: object, declared: Mapping[str, str], name: str) -> Finding:
    if function:
        return ok(f"those of the function {function_name(name)}")
    if bool(declared["subnetIds"]) != bool(declared["securityGroupIds"]):
        return failed(
            "of subnetIds and securityGroupIds only one is set",
            "Set both in serverless.yml, or neither.",
        )
    return ok("those of serverless.yml, as the function is not deployed yet")
