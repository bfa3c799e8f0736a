"""What S3's refusals and failures mean, and what to do about them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    FlexibleChecksumError,
    HTTPClientError,
    IncompleteReadError,
    NoCredentialsError,
    PartialCredentialsError,
)
from botocore.exceptions import ConnectionError as UnreachableError
from botocore.parsers import ResponseParserError

from shared.errors import ConfigError, LandingError, LandingUnavailableError, PipelineError

if TYPE_CHECKING:
    from collections.abc import Iterator

# No answer, a partial one, or one that is not from S3: worth a retry. botocore's other errors are
# ours to fix: credentials, for example, or an invalid name.
_TRANSIENT_ERRORS = (
    UnreachableError,
    HTTPClientError,
    IncompleteReadError,
    FlexibleChecksumError,
    ResponseParserError,
)
# 409: another write to the same key is in progress, and S3 has not decided yet which comes first.
_BUSY_STATUSES = {409, 429}
# botocore reports "404" for a NoSuchKey or NoSuchBucket whose body was truncated.
_BUSY_CODES = {"RequestTimeout", "SlowDown", "404"}
_REMEDIES = {
    "NoSuchBucket": "Deploy the bucket, or fix BUCKET_NAME.",
    "AccessDenied": "Grant the function's role s3:GetObject and s3:PutObject on the bucket's "
    "objects, and s3:ListBucket on the bucket (without it S3 denies access to a missing key).",
    "ExpiredToken": "The credentials have expired: log in again. In AWS the next run has new ones.",
    "InvalidAccessKeyId": "The credentials are of no account: check AWS_PROFILE or the keys.",
    "RequestTimeTooSkewed": "The clock of this machine is wrong: set it.",
}
_KMS_REMEDY = (
    "The bucket is encrypted with a key of KMS: grant the function's role kms:GenerateDataKey and "
    "kms:Decrypt on it, in the role and in the key's policy."
)


@contextmanager
def s3_errors(what: str) -> Iterator[None]:
    """Raise the errors of botocore as ours.

    Args:
        what: what could not be done, with the object: their message begins so.

    Raises:
        LandingError: S3 refuses the request.
        LandingUnavailableError: S3 fails, is overloaded or can't be reached.
        ConfigError: there are no credentials.
    """
    try:
        yield
    except ClientError as error:
        raise _explain(what, error) from error
    except _TRANSIENT_ERRORS as error:
        raise LandingUnavailableError(f"{what}: {error}. It will be retried.") from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise ConfigError(f"{what}: {error}. Log in, or set AWS_PROFILE.") from error
    except BotoCoreError as error:
        raise LandingError(f"{what}: {error}. Fix the deployment.") from error


def _explain(what: str, error: ClientError) -> PipelineError:
    code = error.response["Error"].get("Code", "")
    status = error.response["ResponseMetadata"]["HTTPStatusCode"]
    if status >= 500 or status in _BUSY_STATUSES or code in _BUSY_CODES:
        return LandingUnavailableError(f"{what}: {code} (HTTP {status}). It will be retried.")
    code = "AccessDenied" if code == "403" else code  # an answer to a HEAD has no body
    message = error.response["Error"].get("Message", "").rstrip(".")
    remedy = _REMEDIES.get(code, "Look up the code in the S3 API reference.")
    if "kms:" in message.lower() or code.startswith("KMS."):
        remedy = _KMS_REMEDY
    said = f"{code}: {message}" if message else code
    return LandingError(f"{what}: {said}. {remedy}")
