"""What CloudFormation makes of a compiled template: resources, and their names."""

from __future__ import annotations

from typing import Any


def physical_names(client: Any, stack: str) -> dict[str, str]:
    """Return what the resources of a stack are called, by their logical names.

    Args:
        client: boto3's for CloudFormation.
        stack: the stack's name.
    """
    pages = client.get_paginator("list_stack_resources").paginate(StackName=stack)
    return {
        resource["LogicalResourceId"]: resource["PhysicalResourceId"]
        for page in pages
        for resource in page["StackResourceSummaries"]
    }


def decided(node: Any, template: dict[str, Any]) -> Any:
    """Return a part of a template as CloudFormation reads it, its conditions decided."""
    if isinstance(node, list):
        items = [decided(item, template) for item in node]
        return [item for item in items if item != {"Ref": "AWS::NoValue"}]
    if not isinstance(node, dict):
        return node
    if "Fn::If" in node:
        name, yes, no = node["Fn::If"]
        return decided(yes if _holds({"Condition": name}, template) else no, template)
    if "Fn::Split" in node:
        separator, text = node["Fn::Split"]
        return _value(text, template).split(separator)
    if isinstance(node.get("Condition"), str) and not _holds(node, template):
        return {"Ref": "AWS::NoValue"}
    parts = {key: decided(value, template) for key, value in node.items()}
    return {key: value for key, value in parts.items() if value != {"Ref": "AWS::NoValue"}}


def _holds(condition: dict[str, Any], template: dict[str, Any]) -> bool:
    ((function, argument),) = [
        (key, value)
        for key, value in condition.items()
        if key in {"Condition", "Fn::Equals", "Fn::Not", "Fn::Or", "Fn::And"}
    ]
    if function == "Condition":
        return _holds(template["Conditions"][argument], template)
    if function == "Fn::Equals":
        first, second = (_value(operand, template) for operand in argument)
        return bool(first == second)
    if function == "Fn::Not":
        return not _holds(argument[0], template)
    holding = [_holds(operand, template) for operand in argument]
    return all(holding) if function == "Fn::And" else any(holding)


def _value(node: Any, template: dict[str, Any]) -> str:
    """Return the value of a parameter: its default, because `sls` passes none."""
    return str(template["Parameters"][node["Ref"]]["Default"] if isinstance(node, dict) else node)
