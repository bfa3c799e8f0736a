"""What a call of any function works with: a session of the database, and the client of S3."""

from __future__ import annotations

from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from shared.database import connect, disconnect, is_password_refused
from shared.errors import SourceError
from shared.secrets import get_credentials
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    from shared.settings import Credentials, Settings

ROOT = Path(__file__).resolve().parents[1]


@contextmanager
def database_session(settings: Settings) -> Iterator[Connection]:
    """Open the session that the settings describe, and close it at the end.

    The secret is kept while the process is warm. If its password is refused it may have been
    changed meanwhile: it is read afresh, once.

    Raises:
        ConfigError, LandingUnavailableError: as `get_credentials`.
        SourceError, SourceUnavailableError, ConfigError: as `connect`.
    """
    credentials = get_credentials(settings.db_secret_id)
    try:
        connection = _connect(credentials, settings)
    except SourceError as error:
        if not is_password_refused(error):
            raise
        changed = get_credentials(settings.db_secret_id, fresh=True)
        if changed == credentials:
            raise  # too many failed log-ins lock some roles out
        logger().info("The password was refused, and the secret has another one by now")
        connection = _connect(changed, settings)
    try:
        yield connection
    finally:
        disconnect(connection)


def _connect(credentials: Credentials, settings: Settings) -> Connection:
    ca_file = ROOT / settings.db_ca_file
    return connect(credentials, ca_file, settings.statement_timeout_seconds)


@cache
def s3_client() -> S3Client:
    """Return the process's client, one that gives up in time to say so."""
    return boto3.client(
        "s3",
        config=Config(
            connect_timeout=5,
            read_timeout=30,
            retries={"mode": "standard", "total_max_attempts": 4},
        ),
    )
