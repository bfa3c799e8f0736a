"""Every function has what it takes to run one: a role of its own, a log that ends, alarms."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.package import demands
from tests.e2e.package.packaged import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.e2e.package.packaged import Package

pytestmark = pytest.mark.e2e

FUNCTION = "WarehouseLambdaFunction"  # the next service's
LOG_GROUP = "WarehouseLogGroup"
ROLE = "WarehouseRole"
ERRORS_FILTER = "WarehouseErrorsFilter"
ERRORS_ALARM = "WarehouseErrorsAlarm"
FAILED_ALARM = "WarehouseFailedAlarm"


def test_every_function_has_what_it_takes(prod: Stack, switched: Stack):
    for stack in (prod, switched):
        assert len(stack.functions) >= 2
        assert {name: demands.lacking(stack, name) for name in stack.functions} == {
            name: [] for name in stack.functions
        }


def properties(template: dict[str, Any], name: str) -> dict[str, Any]:
    found: dict[str, Any] = template["Resources"][name]["Properties"]
    return found


def without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda template: template["Resources"].pop(name)


def changed(name: str, **more: Any) -> Callable[[dict[str, Any]], None]:
    return lambda template: properties(template, name).update(more)


def allow(action: str) -> Callable[[dict[str, Any]], None]:
    def add(template: dict[str, Any]) -> None:
        policy, _ = properties(template, ROLE)["Policies"]
        policy["PolicyDocument"]["Statement"][0]["Action"] = action

    return add


def may_not_log(template: dict[str, Any]) -> None:
    policy, _ = properties(template, ROLE)["Policies"]
    policy["PolicyDocument"]["Statement"].pop()


def keeps_its_log(template: dict[str, Any]) -> None:
    del properties(template, LOG_GROUP)["RetentionInDays"]


def logs_errors_only(template: dict[str, Any]) -> None:
    variables = properties(template, FUNCTION)["Environment"]["Variables"]
    variables["POWERTOOLS_LOG_LEVEL"] = "ERROR"


MISTAKES = {
    "a log that is kept for ever": (keeps_its_log, demands.KEPT_FOR_EVER),
    "the role of another": (
        changed(FUNCTION, Role={"Fn::GetAtt": ["ReconcileRole", "Arn"]}),
        demands.NO_ROLE,
    ),
    "any action": (allow("s3:*"), demands.ANY_ACTION),
    "a role that cannot log": (may_not_log, demands.NO_LOG),
    "a log level that hides warnings": (logs_errors_only, demands.SILENT),
    "ERROR lines that nobody counts": (without(ERRORS_FILTER), demands.NO_ERRORS_ALARM),
    "no alarm on ERROR lines": (without(ERRORS_ALARM), demands.NO_ERRORS_ALARM),
    "an alarm on ten ERROR lines": (
        changed(ERRORS_ALARM, Threshold=10),
        demands.NO_ERRORS_ALARM,
    ),
    "no alarm on failures": (without(FAILED_ALARM), demands.NO_FAILED_ALARM),
    "an alarm on more failures than Lambda tries": (
        changed(FAILED_ALARM, Threshold=4),
        demands.NO_FAILED_ALARM,
    ),
    "an alarm on the failures of another": (
        changed(
            FAILED_ALARM,
            Dimensions=[{"Name": "FunctionName", "Value": {"Ref": "ReconcileLambdaFunction"}}],
        ),
        demands.NO_FAILED_ALARM,
    ),
}


@pytest.mark.parametrize(("mistake", "missing"), MISTAKES.values(), ids=MISTAKES)
def test_the_next_service_is_asked_for_the_same(
    extended_package: Package, mistake: Callable[[dict[str, Any]], None], missing: str
):
    template = deepcopy(extended_package.template)
    assert demands.lacking(extended_package, FUNCTION) == []
    mistake(template)
    assert missing in demands.lacking(Stack(template), FUNCTION)
