"""What whoever runs the checks must be allowed to do in AWS: nothing that writes."""

from __future__ import annotations

import re
from typing import Final

from tools.checks.errors import client_error

# The action of each call; IAM's names are not always those of the calls.
ACTIONS: Final = {
    "DescribeStacks": "cloudformation:DescribeStacks",
    "GetTemplate": "cloudformation:GetTemplate",
    "ListStackResources": "cloudformation:ListStackResources",
    "DescribeAlarms": "cloudwatch:DescribeAlarms",
    "DescribeRule": "events:DescribeRule",
    "ListTargetsByRule": "events:ListTargetsByRule",
    "GetFunctionConfiguration": "lambda:GetFunctionConfiguration",
    "ListFunctions": "lambda:ListFunctions",
    "DescribeLogGroups": "logs:DescribeLogGroups",
    "GetBucketEncryption": "s3:GetEncryptionConfiguration",
    "GetBucketPolicy": "s3:GetBucketPolicy",
    "GetBucketVersioning": "s3:GetBucketVersioning",
    "GetObject": "s3:GetObject",
    "GetPublicAccessBlock": "s3:GetBucketPublicAccessBlock",
    "HeadBucket": "s3:ListBucket",
    "DescribeSecret": "secretsmanager:DescribeSecret",
    "GetSecretValue": "secretsmanager:GetSecretValue",
    "ListSubscriptionsByTopic": "sns:ListSubscriptionsByTopic",
    "DescribeExecution": "states:DescribeExecution",
    "DescribeStateMachine": "states:DescribeStateMachine",
    "ListExecutions": "states:ListExecutions",
    "GetCallerIdentity": "sts:GetCallerIdentity",
}


def action_of(error: BaseException) -> str:
    """Return the action that a denied call needs."""
    denied = client_error(error)
    if denied is None:
        raise ValueError(f"No call of AWS was denied: {error!r}")
    if "KMS" in denied.response["Error"].get("Message", ""):
        return "kms:Decrypt"
    said = re.search(r"perform: ([\w-]+:\w+)", denied.response["Error"].get("Message", ""))
    return ACTIONS.get(denied.operation_name) or (said[1] if said else denied.operation_name)
