"""Reads a function's environment variables. Each handler declares the settings it needs."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, Self

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from dataclasses import Field


def whole_number(default: int, *, least: int) -> Any:
    """Declare a setting that is a whole number, `least` or more."""
    return field(default=default, metadata={"least": least})


def switch(*, default: bool) -> Any:
    """Declare a setting that is `true` or `false`."""
    return field(default=default, metadata={"switch": True})


def names() -> Any:
    """Declare a setting that is a list of names, separated by commas; none by default."""
    return field(default=(), metadata={"names": True})


@dataclass(frozen=True, kw_only=True)
class Environment:
    """Settings from environment variables, each named like its field in capitals.

    A field without a default is text and must be set; the others are `whole_number`, `switch` or
    `names`.
    """

    @classmethod
    def variables(cls) -> tuple[str, ...]:
        """Return the names of the variables that are read."""
        return tuple(each.name.upper() for each in fields(cls))

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Build the settings from environment variables.

        Raises:
            ConfigError: names every variable that is missing or malformed.
        """
        values, faults = {}, []
        for each in fields(cls):
            try:
                values[each.name] = _parse(each, env.get(each.name.upper(), ""))
            except ValueError as fault:
                faults.append(f"{each.name.upper()} {fault}")
        if faults:
            raise ConfigError(
                f"Environment: {'; '.join(faults)}. Fix `environment` in the service's "
                "functions.yml, or the parameter in serverless.yml."
            )
        return cls(**values)


@dataclass(frozen=True, kw_only=True)
class BucketSettings(Environment):
    """Settings of a service that uses the bucket.

    Attributes:
        bucket_name: the bucket that rows land in.
    """

    bucket_name: str


@dataclass(frozen=True, kw_only=True)
class DatabaseSettings(Environment):
    """Settings of a service that uses the database.

    Attributes:
        db_secret_id: name or ARN of the secret that holds the credentials.
        db_ca_file: the CA certificates for the database's, relative to the package's root.
        statement_timeout_seconds: after how long the database cancels one of our statements.
    """

    db_secret_id: str
    db_ca_file: str
    statement_timeout_seconds: int = whole_number(60, least=1)


def _parse(setting: Field[Any], text: str) -> Any:
    if "names" in setting.metadata:
        return tuple(name.strip() for name in text.split(",") if name.strip())
    if "switch" in setting.metadata:
        return _parse_switch(text or str(setting.default).lower())
    if "least" in setting.metadata:
        return _parse_number(text or str(setting.default), setting.metadata["least"])
    if not text:
        raise ValueError("is not set")
    return text


def _parse_switch(text: str) -> bool:
    if text not in {"true", "false"}:
        raise ValueError(f"must be true or false, not {text!r}")
    return text == "true"


def _parse_number(text: str, least: int) -> int:
    if not (text.isascii() and text.isdigit() and int(text) >= least):
        raise ValueError(f"must be a whole number from {least}, not {text!r}")
    return int(text)
