"""The secret with the credentials of the database."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import ClientError

from shared.contracts.contract import land_forms, load
from shared.errors import ConfigError
from shared.postgres.credentials import Credentials
from shared.tables import TABLES, Table
from tools.checks.check import Finding, failed, ok, skipped, warning
from tools.checks.errors import code_of

if TYPE_CHECKING:
    from tools.checks.stage import Stage

_GONE: Final = "ResourceNotFoundException"
# What asking for the value of a secret answers that is to be deleted.
_GOING: Final = "InvalidRequestException"


def secret(stage: Stage) -> Finding:
    """Look for the secret."""
    name = stage.settings.db_secret_id
    try:
        found = _describe(stage)
    except ClientError as error:
        if code_of(error) != _GONE:
            raise
        return failed(
            f"there is no secret {name} in {stage.aws.region}",
            "Create it, see step 2 of docs/deploying.md: "
            f"aws secretsmanager create-secret --name {name} --secret-string file://totesys.json",
        )
    if deleted := found.get("DeletedDate"):
        return failed(
            f"{name} will be deleted, since {deleted:%Y-%m-%d}",
            f"aws secretsmanager restore-secret --secret-id {name}",
        )
    return ok(name)


def rotation(stage: Stage) -> Finding:
    """Look for a rotation that did not end."""
    try:
        found = _describe(stage)
    except ClientError as error:
        if code_of(error) != _GONE:
            raise
        return skipped("see `secret`")
    return judge_rotation(stage.settings.db_secret_id, found.get("VersionIdsToStages", {}))


def judge_rotation(name: str, versions: dict[str, list[str]]) -> Finding:
    """Judge the versions of a secret: one that is still pending was never made the current one.

    >>> judge_rotation("x", {"1": ["AWSCURRENT"], "2": ["AWSPENDING"]}).detail
    'a new version is pending: a rotation runs, or has failed'
    """
    if any("AWSPENDING" in each and "AWSCURRENT" not in each for each in versions.values()):
        return warning(
            "a new version is pending: a rotation runs, or has failed",
            "If it does not end, read the log of the function that rotates it, then: "
            f"aws secretsmanager rotate-secret --secret-id {name}",
        )
    return ok("none is pending")


def open_credentials(stage: Stage) -> tuple[tuple[Stage, Credentials] | None, Finding]:
    """Read the secret; what it holds is not told."""
    name = stage.settings.db_secret_id
    try:
        answer = stage.aws.client("secretsmanager").get_secret_value(SecretId=name)
    except ClientError as error:
        has_no_value = "staging label" in str(error)
        if code_of(error) not in {_GONE, _GOING} or has_no_value:
            raise
        return None, skipped("see `secret`")
    text = answer.get("SecretString", "")
    try:
        found = Credentials.from_secret(name, text)
    except ConfigError:
        if _keys(text) == {"username", "password"}:
            return None, failed(
                "it has only username and password: it is one that RDS manages",
                "Create the read-only role (step 1 of docs/deploying.md), store its host, port, "
                "dbname, username and password in a secret of its own, and name that one in "
                "databaseSecret.",
            )
        raise
    return (stage, found), ok("host, port, dbname, username and password are there")


def hash_key(found: tuple[Stage, Credentials]) -> Finding:
    """Look for the key of the hashes that contracts of this checkout let land."""
    stage, credentials = found
    contracts = {name: load(Table(name)) or {} for name in TABLES}
    hashing = [name for name, each in contracts.items() if "hash" in land_forms(each).values()]
    if not hashing:
        return ok("no contract needs one")
    if not credentials.hash_key:
        return failed(
            f"there is no hash_key, and columns of {', '.join(hashing)} land as hashes",
            "Make one and store it with the rest, see docs/personal-data.md: "
            f"aws secretsmanager put-secret-value --secret-id {stage.settings.db_secret_id} "
            "--secret-string file://totesys.json",
        )
    return ok(f"it is there, for {', '.join(hashing)}")


def _describe(stage: Stage) -> dict[str, Any]:
    client = stage.aws.client("secretsmanager")
    found: dict[str, Any] = client.describe_secret(SecretId=stage.settings.db_secret_id)
    return found


def _keys(text: str) -> set[str]:
    try:
        found = json.loads(text)
    except ValueError:
        return set()
    return set(found) if isinstance(found, dict) else set()


CHECKS: Final = {"secret": secret, "secret rotation": rotation}
OF_CREDENTIALS: Final = {"hash key": hash_key}
