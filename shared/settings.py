"""What the deployment configures, read once per call and checked as a whole."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping

_REQUIRED = ("BUCKET_NAME", "STAGE", "DB_SECRET_ID", "DB_CA_FILE")
_NUMBERS = {
    "BATCH_ROWS": (50_000, 1),
    "WRITER_WAIT_SECONDS": (30, 0),
    "STATEMENT_TIMEOUT_SECONDS": (60, 1),
    "BACKLOG_SECONDS": (300, 0),
}
_NAMES = ("WITHOUT_CHANGES",)
ENVIRONMENT = (*_REQUIRED, *_NUMBERS, *_NAMES)


@dataclass(frozen=True, slots=True)
class Settings:
    """The Lambda's environment.

    Attributes:
        bucket_name: the bucket rows land in.
        stage: the name of the stage, a dimension of every metric.
        db_secret_id: name or ARN of the secret that holds the `Credentials`.
        db_ca_file: the certificates a database may be signed by, relative to the package's root.
        batch_rows: how many rows one object holds at most.
        writer_wait_seconds: how long a run waits, in all, for writers that are still open.
        statement_timeout_seconds: when the database gives up on one of our statements.
        backlog_seconds: how old an execution may be and still be told that there is `more`.
        without_changes: the tables that have no change stream; `all` stands for every one.
    """

    bucket_name: str
    stage: str
    db_secret_id: str
    db_ca_file: str
    batch_rows: int
    writer_wait_seconds: int
    statement_timeout_seconds: int
    backlog_seconds: int
    without_changes: tuple[str, ...]

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Settings:
        """Build the settings from environment variables.

        Raises:
            ConfigError: naming every variable that is missing or malformed.
        """
        faults = [f"{name} is not set" for name in _REQUIRED if not env.get(name)]
        numbers = {}
        for name, (default, least) in _NUMBERS.items():
            text = env.get(name) or str(default)
            if text.isascii() and text.isdigit() and int(text) >= least:
                numbers[name.lower()] = int(text)
            else:
                faults.append(f"{name} must be a whole number from {least}, not {text!r}")
        if faults:
            raise ConfigError(
                f"Environment: {'; '.join(faults)}. Mend `environment` in serverless.yml."
            )
        names = {name.lower(): _names(env.get(name, "")) for name in _NAMES}
        return cls(**{name.lower(): env[name] for name in _REQUIRED}, **numbers, **names)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Credentials:
    """Where the database is and who we are there.

    A `host` that begins with a slash is the folder of a unix socket, as in libpq.
    """

    host: str
    port: int
    dbname: str
    username: str
    password: str = field(repr=False)

    @property
    def unix_socket(self) -> str | None:
        """The path of the unix socket, None where the host is reached by TCP."""
        return f"{self.host}/.s.PGSQL.{self.port}" if self.host.startswith("/") else None

    @classmethod
    def from_secret(cls, secret_id: str, text: str) -> Credentials:
        """Build the credentials from the secret's JSON.

        Raises:
            ConfigError: naming every key that is missing or malformed, and never a value.
        """
        secret = _json_object(secret_id, text)
        strings = ("host", "dbname", "username", "password")
        faults = [
            f"`{name}` must be a string that is not empty"
            for name in strings
            if not (isinstance(secret.get(name), str) and secret[name])
        ]
        port = str(secret.get("port"))
        if not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            faults.append("`port` must be a number from 1 to 65535")
        if faults:
            raise ConfigError(
                f"Secret {secret_id!r}: {'; '.join(faults)}. Put a new value into it."
            )
        return cls(port=int(port), **{name: secret[name] for name in strings})


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _json_object(secret_id: str, text: str) -> dict[str, Any]:
    try:
        secret = json.loads(text)
    except ValueError:
        secret = None  # the parser's message would quote the secret
    if not isinstance(secret, dict):
        raise ConfigError(
            f"Secret {secret_id!r} is not a JSON object. "
            "It must hold host, port, dbname, username and password."
        )
    return secret
