"""A third function: what the next service adds to the template, as it would be compiled."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any

FUNCTION = "WarehouseLambdaFunction"
LOG_GROUP = "WarehouseLogGroup"
ROLE = "WarehouseRole"
ERROR_LINES = "WarehouseErrorLinesFilter"
ERRORS_ALARM = "WarehouseErrorsAlarm"
FAILED_ALARM = "WarehouseFailedAlarm"


def with_third_function(template: dict[str, Any]) -> dict[str, Any]:
    """Return the template with a function more, and all that it needs.

    The function only reads the bucket: it has no secret and is in no VPC.
    """
    template = deepcopy(template)
    resources = template["Resources"]
    reconcile = resources["ReconcileLambdaFunction"]["Properties"]
    stage = reconcile["FunctionName"].split("-")[2]
    bucket = reconcile["Environment"]["Variables"]["BUCKET_NAME"]
    name = f"totesys-ingestion-{stage}-warehouse"
    resources |= {
        FUNCTION: {
            "Type": "AWS::Lambda::Function",
            "Properties": {key: value for key, value in reconcile.items() if key != "VpcConfig"}
            | {
                "FunctionName": name,
                "Handler": "services/warehouse/handler.lambda_handler",
                "Description": "Loads what has landed into the warehouse",
                "Role": {"Fn::GetAtt": [ROLE, "Arn"]},
                "Environment": {"Variables": _variables(bucket)},
            },
            "DependsOn": [ROLE],
        },
        LOG_GROUP: deepcopy(resources["ReconcileLogGroup"]),
        ROLE: {"Type": "AWS::IAM::Role", "Properties": _role(bucket, name)},
        ERROR_LINES: deepcopy(resources["ReconcileErrorsFilter"]),
        ERRORS_ALARM: deepcopy(resources["ReconcileErrorsAlarm"]),
        FAILED_ALARM: deepcopy(resources["ReconcileFailedAlarm"]),
    }
    resources[LOG_GROUP]["Properties"]["LogGroupName"] = f"/aws/lambda/{name}"
    metric = f"{stage}-WarehouseErrorLines"
    lines = resources[ERROR_LINES]["Properties"]
    lines["LogGroupName"] = {
        "Fn::If": ["LogGroupsAreOurs", {"Ref": LOG_GROUP}, f"/aws/lambda/{name}"]
    }
    lines["MetricTransformations"][0]["MetricName"] = metric
    errors, failed = (resources[each]["Properties"] for each in (ERRORS_ALARM, FAILED_ALARM))
    errors |= {"AlarmName": f"{name}-errors", "MetricName": metric}
    failed |= {
        "AlarmName": f"{name}-failed",
        "Dimensions": [{"Name": "FunctionName", "Value": {"Ref": FUNCTION}}],
    }
    _watch(resources, [errors["AlarmName"], failed["AlarmName"]])
    return template


def _variables(bucket: str) -> dict[str, str]:
    return {
        "BUCKET_NAME": bucket,
        "POWERTOOLS_SERVICE_NAME": "warehouse",
        "POWERTOOLS_LOG_LEVEL": "INFO",
    }


def _role(bucket: str, function: str) -> dict[str, Any]:
    logs = "arn:${AWS::Partition}:logs:${AWS::Region}:${AWS::AccountId}"
    called = {
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    read = {
        "Sid": "ReadLandingBucket",
        "Effect": "Allow",
        "Action": "s3:GetObject",
        "Resource": {"Fn::Sub": f"arn:${{AWS::Partition}}:s3:::{bucket}/*"},
    }
    write_log = {
        "Sid": "WriteLog",
        "Effect": "Allow",
        "Action": ["logs:CreateLogStream", "logs:PutLogEvents"],
        "Resource": {
            "Fn::If": [
                "LogGroupsAreOurs",
                {"Fn::GetAtt": [LOG_GROUP, "Arn"]},
                {"Fn::Sub": f"{logs}:log-group:/aws/lambda/{function}:*"},
            ]
        },
    }
    document = {"Version": "2012-10-17", "Statement": [read, write_log]}
    return {
        "AssumeRolePolicyDocument": {"Version": "2012-10-17", "Statement": [called]},
        "Policies": [{"PolicyName": "warehouse", "PolicyDocument": document}],
    }


def _watch(resources: dict[str, Any], names: list[str]) -> None:
    """Add the alarms to the dashboard."""
    body = resources["Dashboard"]["Properties"]["DashboardBody"]
    dashboard = json.loads(body["Fn::Sub"])
    (shown,) = (each for each in dashboard["widgets"] if each["type"] == "alarm")
    arn = shown["properties"]["alarms"][0].rpartition(":")[0]
    shown["properties"]["alarms"] += [f"{arn}:{name}" for name in names]
    body["Fn::Sub"] = json.dumps(dashboard)
