"""Who asks AWS, and whether this machine's clock is right enough to be answered."""

from __future__ import annotations

import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError, ClientError

from tools.checks.check import Finding, failed, ok, skipped, warning

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.stages import Aws

WARN_SECONDS: Final = 60
REFUSED_SECONDS: Final = 15 * 60


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever runs the checks, and AWS as they reach it."""

    aws: Aws
    account: str


def open_caller(aws: Aws) -> tuple[Caller | None, Finding]:
    """Find out whose credentials these are."""
    remedy = (
        "Log in, or set AWS_PROFILE or the keys, until `aws sts get-caller-identity` answers. "
        "Is --region the name of a region?"
    )
    try:
        said = aws.client("sts").get_caller_identity()
    except (BotoCoreError, ClientError) as error:
        return None, failed(str(error), remedy)
    fine = ok(f"account {said['Account']}, {said['Arn']}, {aws.region}")
    return Caller(aws, said["Account"]), fine


def clock(aws: Aws) -> Finding:
    """Compare this machine's clock with the Date of an answer, which a refusal has, too."""
    client = aws.client("sts")
    before = time.time()
    try:
        answer: Any = client.get_caller_identity()
    except ClientError as refused:
        answer = refused.response
    except BotoCoreError:  # nothing was asked, or nobody answers
        return skipped("see `credentials`")
    headers: Mapping[str, str] = answer["ResponseMetadata"]["HTTPHeaders"]
    now = (before + time.time()) / 2
    if "date" not in headers:
        return skipped("the answer has no date")
    return judge_clock(now - parsedate_to_datetime(headers["date"]).timestamp())


def judge_clock(seconds: float) -> Finding:
    """Judge by how much this machine's clock is ahead of AWS's, or behind it.

    >>> judge_clock(-0.4).detail
    'within 60 s of that of AWS'
    >>> judge_clock(3600).detail
    "this machine's is 60 minutes ahead of that of AWS"
    """
    if abs(seconds) <= WARN_SECONDS:
        return ok(f"within {WARN_SECONDS} s of that of AWS")
    where = "ahead of" if seconds > 0 else "behind"
    found = f"this machine's is {abs(seconds) / 60:.0f} minutes {where} that of AWS"
    remedy = "Let NTP set the clock of this machine; S3 refuses requests that are 15 minutes off."
    return (failed if abs(seconds) >= REFUSED_SECONDS else warning)(found, remedy)


CHECKS: Final = {"clock": clock}
