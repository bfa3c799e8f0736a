"""The clients of AWS, which give up in time to say so.

They share boto3's default session: one of its own would read the data of all services once more.
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
    """Return the process's client of S3, which is kept while the process is warm."""
    return boto3.client("s3", config=_config(read_timeout=30, attempts=4))


def secrets_client() -> SecretsManagerClient:
    """Return a client of Secrets Manager."""
    return boto3.client("secretsmanager", config=_config(read_timeout=10, attempts=3))


def _config(read_timeout: int, attempts: int) -> Config:
    return Config(
        connect_timeout=5,
        read_timeout=read_timeout,
        retries={"mode": "standard", "total_max_attempts": attempts},
    )
