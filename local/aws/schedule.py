"""What deployed schedules start, and when: moto never looks at the time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from aws_croniter import AwsCroniter

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True)
class Target:
    """What a schedule starts.

    Attributes:
        schedule: as in the template, `rate(10 minutes)` or `cron(15 2 * * ? *)`.
        arn: a state machine's, or a function's.
        text: what it gets, JSON.
    """

    schedule: str
    arn: str
    text: str

    def next_time(self, after: datetime) -> datetime:
        """Return when the schedule starts it next."""
        kind, expression = self.schedule.removesuffix(")").split("(")
        if kind == "rate":
            number, unit = expression.split()
            return after + timedelta(**{f"{unit.removesuffix('s')}s": int(number)})
        following: datetime = AwsCroniter(expression).get_next(after, 1)[0]
        return following


def scheduled(client: Any, service: str = "states") -> list[Target]:
    """Return what enabled rules start by the time.

    Args:
        client: boto3's for EventBridge.
        service: `states` for the state machines, `lambda` for the functions.
    """
    return [
        Target(rule["ScheduleExpression"], target["Arn"], target.get("Input", "{}"))
        for rule in client.list_rules()["Rules"]
        if rule["State"] == "ENABLED" and "ScheduleExpression" in rule
        for target in client.list_targets_by_rule(Rule=rule["Name"])["Targets"]
        if f":{service}:" in target["Arn"]
    ]
