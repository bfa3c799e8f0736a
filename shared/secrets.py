"""The database's credentials, from Secrets Manager."""

from __future__ import annotations

from functools import cache

import boto3
from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from shared.errors import ConfigError, LandingUnavailableError
from shared.settings import Credentials


def get_credentials(secret_id: str, *, fresh: bool = False) -> Credentials:
    """Return the credentials a secret holds, or held a while ago if not `fresh`.

    Raises:
        ConfigError: there is no such secret, it is not ours to read, or it is malformed.
        LandingUnavailableError: Secrets Manager fails, is overloaded or can't be reached.
    """
    try:
        text = secrets_provider().get(secret_id, force_fetch=fresh)
    except GetParameterError as error:
        raise _explain(secret_id, error) from error
    return Credentials.from_secret(secret_id, text if isinstance(text, str) else "")


@cache
def secrets_provider() -> SecretsProvider:
    """Return the process's provider, which keeps a secret for a while and gives up in time."""
    config = Config(
        connect_timeout=5,
        read_timeout=10,
        retries={"mode": "standard", "total_max_attempts": 3},
    )
    # A client of the session that all share: one of its own would load boto3's data once more.
    return SecretsProvider(boto3_client=boto3.client("secretsmanager", config=config))


def _explain(secret_id: str, error: Exception) -> ConfigError | LandingUnavailableError:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ClientError):
        code = cause.response["Error"]["Code"]
        if cause.response["ResponseMetadata"]["HTTPStatusCode"] < 500 and "Throttl" not in code:
            return ConfigError(
                f"Secret {secret_id!r} can't be read: {code}. Create it, or let the function's "
                "role secretsmanager:GetSecretValue on it."
            )
    what = type(cause).__name__ if isinstance(cause, BotoCoreError) else "it failed"
    return LandingUnavailableError(f"Secrets Manager does not answer for {secret_id!r}: {what}.")
