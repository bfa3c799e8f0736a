"""What the deployed schedule starts; moto stores EventBridge rules and never triggers them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Target:
    """A state machine, and the JSON text that the schedule hands to it."""

    schedule: str
    state_machine_arn: str
    text: str


def scheduled(client: Any) -> list[Target]:
    """Return the state machines that enabled rules start; `client` is boto3's for EventBridge."""
    return [
        Target(rule["ScheduleExpression"], target["Arn"], target["Input"])
        for rule in client.list_rules()["Rules"]
        if rule["State"] == "ENABLED"
        for target in client.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        if ":states:" in target["Arn"]
    ]
