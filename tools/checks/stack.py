"""The stack of a stage: how its last deployment ended, and what it consists of."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from botocore.exceptions import BotoCoreError, ClientError

from local.aws.template import decided, physical_names
from tools.checks.check import Finding, failed, ok, skipped, warning
from tools.checks.errors import code_of
from tools.stages import deployed_stages, stack_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tools.checks.stage import Stage

_SAYS_WHY = "`aws cloudformation describe-stack-events --stack-name {stack}` says why"
_START_AGAIN = (
    "The first deployment failed: " + _SAYS_WHY + ". Fix that, then: npx sls remove --stage {stage}"
    ", and deploy again."
)
_DEPLOY_AGAIN = _SAYS_WHY + ". Fix that, then deploy again."
_REMEDIES = {
    "CREATE_FAILED": _START_AGAIN,
    "ROLLBACK_COMPLETE": _START_AGAIN,
    "ROLLBACK_FAILED": _START_AGAIN,
    "REVIEW_IN_PROGRESS": "It was never deployed: npx sls remove --stage {stage}, then deploy.",
    "UPDATE_FAILED": _DEPLOY_AGAIN,
    "UPDATE_ROLLBACK_FAILED": _SAYS_WHY + ". Fix that, then: "
    "aws cloudformation continue-update-rollback --stack-name {stack}, and deploy again.",
    "UPDATE_ROLLBACK_COMPLETE": "What was deployed before the last deployment is at work. "
    + _DEPLOY_AGAIN,
    "DELETE_FAILED": "Some of it could not be removed: " + _SAYS_WHY + ". Fix that, then: "
    "npx sls remove --stage {stage}",
}
_FINE = {"CREATE_COMPLETE", "UPDATE_COMPLETE", "IMPORT_COMPLETE"}


class Resource(NamedTuple):
    """A resource: its type, what it is called in AWS, and its properties in the template."""

    type: str
    name: str
    properties: Mapping[str, Any]


@dataclass(frozen=True)
class Deployment:
    """A stage that is deployed.

    Attributes:
        stage: the stage.
        resources: those of its stack, by their logical names.
        now: when it was looked at.
        age: how long ago it was deployed for the first time.
    """

    stage: Stage
    resources: Mapping[str, Resource]
    now: datetime
    age: timedelta

    @property
    def deploy_again(self) -> str:
        """What to do about a resource that was changed outside of the stack."""
        return f"Deploy again: npx sls deploy --force --stage {self.stage.name}"

    @property
    def create_again(self) -> str:
        """What to do about a resource that was deleted outside of the stack.

        CloudFormation believes that it is there, and would not create it.
        """
        stage = self.stage.name
        return (
            f"Somebody deleted it. npx sls remove --stage {stage}, then deploy again, as "
            "docs/deploying.md says under Tear down and redeploy (createBucket: false): what has "
            "landed stays, and the next run continues from there."
        )

    def client(self, service: str) -> Any:
        """Return the client of a service."""
        return self.stage.aws.client(service)

    def of_type(self, *types: str) -> list[Resource]:
        """Return the resources of some types."""
        return [each for each in self.resources.values() if each.type in types]

    def referred(self, value: Any) -> str:
        """Return what a value of the template is: a text, or a reference to a resource."""
        return self.resources[value["Ref"]].name if isinstance(value, dict) else str(value)


def open_deployment(stage: Stage) -> tuple[Deployment | None, Finding]:
    """Look at the stack."""
    client, name = stage.aws.client("cloudformation"), stack_name(stage.name)
    try:
        [stack] = client.describe_stacks(StackName=name)["Stacks"]
    except ClientError as error:
        if (
            code_of(error) != "ValidationError"
        ):  # what CloudFormation calls a stack that is not there
            raise
        return None, skipped("not deployed yet", _others(stage))
    finding = judge_stack(stack["StackStatus"], stage.name)
    if not is_at_work(stack["StackStatus"]):
        return None, finding
    now, template = datetime.now(UTC), client.get_template(StackName=name)["TemplateBody"]
    names = physical_names(client, name)
    resources = {
        logical: Resource(each["Type"], names.get(logical, ""), each.get("Properties", {}))
        for logical, each in decided(template["Resources"], template).items()
    }
    return Deployment(stage, resources, now, now - stack["CreationTime"]), finding


def is_at_work(status: str) -> bool:
    """Tell whether a stack of this status is deployed, be it by an earlier deployment."""
    return status.startswith(("UPDATE_", "IMPORT_")) or status == "CREATE_COMPLETE"


def judge_stack(status: str, stage: str) -> Finding:
    """Judge the status of a stack.

    >>> judge_stack("UPDATE_COMPLETE", "prod").outcome
    <Outcome.OK: 'ok'>
    >>> judge_stack("REVIEW_IN_PROGRESS", "prod").remedy
    'It was never deployed: npx sls remove --stage prod, then deploy.'
    """
    if status in _FINE:
        return ok(status)
    names = {"stack": stack_name(stage), "stage": stage}
    if status.endswith("_IN_PROGRESS") and status not in _REMEDIES:
        return warning(status, "Wait until it has ended, and check again.")
    remedy = _REMEDIES.get(status, _DEPLOY_AGAIN).format(**names)
    return (warning if status == "UPDATE_ROLLBACK_COMPLETE" else failed)(status, remedy)


def _others(stage: Stage) -> str:
    """Return which stages are deployed, for somebody who mistyped the name."""
    try:
        names = deployed_stages(stage.aws)
    except (BotoCoreError, ClientError):
        return ""  # only an addition, and the check has its finding
    return f"Deployed there: {', '.join(names)}." if names else ""
