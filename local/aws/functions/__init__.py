"""Runs deployed Lambda functions the way AWS does, without containers."""

from local.aws.functions.pool import Functions

__all__ = ["Functions"]
