"""Resources that moto's CloudFormation leaves out of a stack: alarms, and the policies of buckets.

moto knows every direct subclass of its CloudFormationModel, so importing this module is enough.
"""

from __future__ import annotations

import json
from typing import Any, Self

from moto.cloudwatch.models import cloudwatch_backends
from moto.core.common_models import CloudFormationModel
from moto.s3.models import s3_backends


class _Resource:
    """What moto calls by name and position: a subclass says how it is put, and deleted again."""

    def __init__(self, name: str) -> None:
        self.physical_resource_id = name

    @staticmethod
    def _put(name: str, properties: dict[str, Any], account_id: str, region: str) -> None:
        raise NotImplementedError

    @classmethod
    def create_from_cloudformation_json(
        cls, name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
    ) -> Self:
        cls._put(name, cloudformation_json["Properties"], account_id, region_name)
        return cls(name)

    @classmethod
    def update_from_cloudformation_json(cls, new_resource_name: str, **changed: Any) -> Self:
        del changed["original_resource"]
        return cls.create_from_cloudformation_json(new_resource_name, **changed)


class Alarm(_Resource, CloudFormationModel):  # type: ignore[misc] # moto calls by position
    """An alarm. moto never evaluates it; the metrics of an expression are left out."""

    @staticmethod
    def cloudformation_type() -> str:
        """Return its type in templates."""
        return "AWS::CloudWatch::Alarm"

    @staticmethod
    def cloudformation_name_type() -> str:
        """Return the property that names it."""
        return "AlarmName"

    @staticmethod
    def _put(name: str, properties: dict[str, Any], account_id: str, region: str) -> None:
        # An alarm on an expression has no metric, which moto's types do not know.
        put: Any = cloudwatch_backends[account_id][region].put_metric_alarm
        put(
            name=name,
            namespace=properties.get("Namespace"),
            metric_name=properties.get("MetricName"),
            comparison_operator=properties["ComparisonOperator"],
            evaluation_periods=properties["EvaluationPeriods"],
            datapoints_to_alarm=properties.get("DatapointsToAlarm"),
            period=properties.get("Period"),
            threshold=properties["Threshold"],
            statistic=properties.get("Statistic"),
            description=properties.get("AlarmDescription"),
            dimensions=properties.get("Dimensions", []),
            alarm_actions=properties.get("AlarmActions", []),
            ok_actions=properties.get("OKActions", []),
            treat_missing_data=properties.get("TreatMissingData"),
        )

    @classmethod
    def delete_from_cloudformation_json(
        cls, name: str, _: Any, account_id: str, region: str
    ) -> None:
        """Delete it."""
        cloudwatch_backends[account_id][region].delete_alarms([name])


class BucketPolicy(_Resource, CloudFormationModel):  # type: ignore[misc]
    """The policy of a bucket, named like the bucket."""

    @staticmethod
    def cloudformation_type() -> str:
        """Return its type in templates."""
        return "AWS::S3::BucketPolicy"

    @staticmethod
    def cloudformation_name_type() -> str:
        """Return the property that names it."""
        return "Bucket"

    @staticmethod
    def _put(name: str, properties: dict[str, Any], account_id: str, _: str) -> None:
        policy = json.dumps(properties["PolicyDocument"])
        s3_backends[account_id]["aws"].put_bucket_policy(name, policy.encode())

    @classmethod
    def delete_from_cloudformation_json(cls, name: str, _: Any, account_id: str, __: str) -> None:
        """Delete it from its bucket, which moto may have deleted before."""
        if name in s3_backends[account_id]["aws"].buckets:
            s3_backends[account_id]["aws"].delete_bucket_policy(name)
