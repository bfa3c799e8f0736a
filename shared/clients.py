"""The clients of AWS, whose timeouts are short enough for a failure to be reported.

They share boto3's default session, because a second one would read the data of all AWS services
again: 80 ms of a cold start.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_secretsmanager import SecretsManagerClient


@cache
def s3_client() -> S3Client:
    """Return the client of S3, which a warm process keeps.

    It does not sign bodies, which TLS protects, and whose checksums S3 compares.
    """
    unsigned = Config(s3={"payload_signing_enabled": False})
    return boto3.client("s3", config=_config(read_timeout=30, attempts=4).merge(unsigned))


def secrets_client() -> SecretsManagerClient:
    """Return a client of Secrets Manager."""
    return boto3.client("secretsmanager", config=_config(read_timeout=10, attempts=3))


def _config(read_timeout: int, attempts: int) -> Config:
    return Config(
        connect_timeout=5,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
