"""What CloudFormation keeps: rollbacks, deletion policies, and stacks that may not be deleted.

Of these moto knows only the policy `Retain`.
"""

from __future__ import annotations

from typing import Any

from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend, Stack
from moto.cloudformation.parsing import ResourceMap
from moto.cloudformation.responses import CloudFormationResponse
from moto.core.responses import ActionResult

from local.aws.moto_patches import replace


def roll_back_failed_updates() -> None:
    """Undo an update of a stack that fails; moto leaves what it had created until then.

    The first deployment is an update, too: the framework first creates a stack that has only the
    bucket for its zips.
    """
    update = Stack.update

    def update_or_roll_back(self: Any, template: str, *args: Any, **more: Any) -> None:
        before = self.template
        try:
            update(self, template, *args, **more)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is the reason of the rollback
            self._add_stack_event("UPDATE_ROLLBACK_IN_PROGRESS", str(error))
            failed = self.template_dict["Resources"]
            self.template = before
            self._parse_template()
            self.resource_map.is_rolling_back = True
            self.resource_map.update(self.template_dict)
            self.resource_map.is_rolling_back = False
            for name in failed.keys() - self.template_dict["Resources"].keys():
                self.resource_map._parsed_resources.pop(name, None)
            self.status = "UPDATE_ROLLBACK_COMPLETE"
            self._add_stack_event(self.status)

    replace(Stack, "update", update_or_roll_back)


def make_buckets_first() -> None:
    """Begin an update with the buckets, as CloudFormation does with all that refers to nothing.

    Else a deployment that fails half way would fail here before it has made one. Layers are next,
    so that functions get the new one.
    """
    update, order = ResourceMap.update, {"AWS::S3::Bucket": 0, "AWS::Lambda::LayerVersion": 1}

    def update_in_order(self: Any, template: dict[str, Any], *args: Any) -> None:
        found = template["Resources"]
        in_order = sorted(found, key=lambda name: order.get(found[name]["Type"], len(order)))
        update(self, template | {"Resources": {name: found[name] for name in in_order}}, *args)

    replace(ResourceMap, "update", update_in_order)


def keep_what_is_retained() -> None:
    """Follow a resource's DeletionPolicy whenever CloudFormation would delete it.

    `RetainExceptOnCreate` keeps it, except if its creation is rolled back:
    https://docs.aws.amazon.com/AWSCloudFormation/latest/TemplateReference/aws-attribute-deletionpolicy.html
    """
    delete = ResourceMap._delete_resource

    def delete_unless_retained(self: Any, resource: Any, described: dict[str, Any]) -> None:
        is_rolling_back = getattr(self, "is_rolling_back", False)
        kept = {"Retain"} if is_rolling_back else {"Retain", "RetainExceptOnCreate"}
        if described.get("DeletionPolicy") not in kept:
            delete(self, resource, described)

    replace(ResourceMap, "_delete_resource", delete_unless_retained)


def refuse_to_delete_protected_stacks() -> None:
    """Add termination protection, which moto takes at a stack's creation and then forgets."""

    def update_termination_protection(self: CloudFormationResponse) -> ActionResult:
        stack = self.cloudformation_backend.get_stack(self._get_param("StackName"))
        stack.enable_termination_protection = self._get_bool_param("EnableTerminationProtection")
        return ActionResult({"StackId": stack.stack_id})

    def names(stack: Stack) -> tuple[str, str]:
        return stack.name, stack.stack_id

    delete = CloudFormationBackend.delete_stack

    def delete_if_not_protected(self: CloudFormationBackend, name_or_stack_id: str) -> None:
        named = [each for each in self.stacks.values() if name_or_stack_id in names(each)]
        if any(each.enable_termination_protection for each in named):
            raise ValidationError(
                message=f"Stack [{name_or_stack_id}] cannot be deleted while TerminationProtection "
                "is enabled"
            )
        delete(self, name_or_stack_id)

    setattr(CloudFormationResponse, "update_termination_protection", update_termination_protection)  # noqa: B010
    replace(CloudFormationBackend, "delete_stack", delete_if_not_protected)
