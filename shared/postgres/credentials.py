"""The credentials for the database, from Secrets Manager."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from aws_lambda_powertools.utilities.parameters import SecretsProvider
from aws_lambda_powertools.utilities.parameters.exceptions import GetParameterError
from botocore.exceptions import BotoCoreError, ClientError

from shared.clients import secrets_client
from shared.errors import ConfigError, LandingUnavailableError

# How long a warm process caches a secret. The same as powertools' default; operators are told it.
CACHED_SECONDS = 300


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the database is, the role to log in with, and the key of hashes if there is one.

    A `host` that begins with a slash is the directory of a unix socket, as in libpq.
    """

    host: str
    port: int
    dbname: str
    username: str
    password: str = field(repr=False)
    hash_key: str | None = field(default=None, repr=False)

    @property
    def unix_socket(self) -> str | None:
        """The path of the unix socket; None if the host is reached by TCP."""
        return f"{self.host}/.s.PGSQL.{self.port}" if self.host.startswith("/") else None

    @classmethod
    def from_secret(cls, secret_id: str, text: str) -> Credentials:
        """Build the credentials from the secret's JSON.

        Raises:
            ConfigError: names every key that is missing or malformed, but quotes no value.
        """
        secret = _json_object(secret_id, text)
        strings = ("host", "dbname", "username", "password")
        faults = [
            f"`{name}` must be a string that is not empty"
            for name in strings
            if not (isinstance(secret.get(name), str) and secret[name])
        ]
        host = secret.get("host")
        if isinstance(host, str) and host and not _HOST.fullmatch(host):
            faults.append("`host` must be a name or an address, without brackets or white space")
        port = str(secret.get("port"))
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            faults.append("`port` must be a number from 1 to 65535")
        key = secret.get("hash_key")
        if not (key is None or (isinstance(key, str) and len(key) >= _HASH_KEY_CHARACTERS)):
            faults.append(
                f"`hash_key` must be a string of at least {_HASH_KEY_CHARACTERS} characters, if it "
                "is there"
            )
        if faults:
            raise ConfigError(
                f"Secret {secret_id!r}: {'; '.join(faults)}. Store a corrected value in it."
            )
        return cls(port=int(port), hash_key=key, **{name: secret[name] for name in strings})


# RFC 2104: a key that is shorter than the hash, 32 bytes, makes the hash weaker.
_HASH_KEY_CHARACTERS = 32

# The directory of a unix socket, or a name or an address as sockets take them: `::1`, not `[::1]`.
_HOST = re.compile(r"/[^\r\n]*|[^\s\[\]/][^\s\[\]]*")

# The error codes with which AWS answers too many requests, or requests that took too long.
_BUSY = re.compile("Throttl|TooManyRequests|LimitExceeded|SlowDown|RequestTimeout")


def get_credentials(secret_id: str, *, fresh: bool = False) -> Credentials:
    """Return the credentials in a secret, cached for `CACHED_SECONDS` unless `fresh` is set.

    Raises:
        ConfigError: there is no such secret, the role may not read it, or it is malformed.
        LandingUnavailableError: Secrets Manager fails, is overloaded or can't be reached.
    """
    try:
        text = secrets_provider().get(secret_id, max_age=CACHED_SECONDS, force_fetch=fresh)
    except GetParameterError as error:
        raise _explain(secret_id, error) from error
    return Credentials.from_secret(secret_id, text if isinstance(text, str) else "")


@cache
def secrets_provider() -> SecretsProvider:
    """Return the process's provider, which caches secrets."""
    return SecretsProvider(boto3_client=secrets_client())


def _explain(secret_id: str, error: Exception) -> ConfigError | LandingUnavailableError:
    cause = error.__cause__ or error.__context__
    if isinstance(cause, ClientError):
        code = cause.response["Error"]["Code"]
        status = cause.response["ResponseMetadata"]["HTTPStatusCode"]
        if status < 500 and status != 429 and not _BUSY.search(code):
            return ConfigError(
                f"Secret {secret_id!r} can't be read: {code}. Create it, or grant the function's "
                "role secretsmanager:GetSecretValue on it."
            )
    what = type(cause).__name__ if isinstance(cause, BotoCoreError) else "the request failed"
    return LandingUnavailableError(f"Secrets Manager does not answer for {secret_id!r}: {what}.")


def _json_object(secret_id: str, text: str) -> dict[str, Any]:
    try:
        secret = json.loads(text.removeprefix("\ufeff"))  # some editors begin a file with it
    except ValueError:
        secret = None  # the parser's error is dropped: its message would quote the secret
    if not isinstance(secret, dict):
        raise ConfigError(
            f"Secret {secret_id!r} is not a JSON object. "
            "It must hold host, port, dbname, username and password."
        )
    return secret
