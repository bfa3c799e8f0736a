"""What starts functions and state machines by itself: rules of EventBridge, notifications of S3.

moto 5.2.5 keeps rules and matches their patterns, but executions send no events, and no rule calls
a function. It sends the notifications of buckets, but for those that a template declares.
As on AWS, what is started runs in the background; unlike there, a call that fails is not repeated.
Schedules are for `local.serve`, because no time passes in tests.
"""

from __future__ import annotations

import json
import uuid
from copy import copy
from datetime import UTC, datetime
from threading import Thread
from typing import TYPE_CHECKING, Any

from jsonpath_ng.ext.parser import parse as json_path
from moto.awslambda.utils import get_backend
from moto.events.models import Rule, events_backends
from moto.s3 import notifications
from moto.s3.models import FakeBucket
from moto.stepfunctions.parser.backend.execution import BaseExecutionWorkerCommunication, Execution
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

from local.aws.moto_patches import replace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

EXECUTIONS = "Step Functions Execution Status Change"


def fire_triggers() -> None:
    """Let executions send events, rules start their targets, and buckets notify."""
    _let_executions_send_events()
    _let_rules_start_their_targets()
    _let_buckets_notify()


def _let_executions_send_events() -> None:
    """Send an event when an execution starts, and when it ends, in whatever status.

    https://docs.aws.amazon.com/step-functions/latest/dg/eventbridge-integration.html
    """
    start, end = Execution.start, BaseExecutionWorkerCommunication.terminated

    def start_and_tell(self: Execution) -> None:
        start(self)
        _tell(self, "RUNNING")

    def end_and_tell(self: BaseExecutionWorkerCommunication) -> None:
        end(self)
        _tell(self.execution, self.execution.status)

    replace(Execution, "start", start_and_tell)
    replace(BaseExecutionWorkerCommunication, "terminated", end_and_tell)


def _let_rules_start_their_targets() -> None:
    """Let rules call functions and start state machines; moto knows other targets, such as queues.

    It also fires rules that are disabled, and takes a schedule for a pattern that fits all.
    """
    send = Rule.send_to_targets

    def send_to_all(self: Rule, event: Any, *args: Any, **options: Any) -> None:
        pattern = self.event_pattern
        if self.state != "ENABLED" or not pattern.get_pattern() or not pattern.matches_event(event):
            return
        others = copy(self)
        others.targets = [each for each in self.targets if _service(each) not in _START]
        for target in self.targets:
            if _service(target) in _START:
                _in_background(_start, target, event)
        send(others, event, *args, **options)

    replace(Rule, "send_to_targets", send_to_all)


def _let_buckets_notify() -> None:
    """Give buckets the notifications of their template, and send these in the background."""
    send = notifications.send_event

    def send_later(account_id: str, event: str, bucket: FakeBucket, key: Any) -> None:
        if bucket.notification_configuration:
            _in_background(send, account_id, event, bucket, key)

    replace(notifications, "send_event", send_later)
    for name in ("create_from_cloudformation_json", "update_from_cloudformation_json"):
        replace(FakeBucket, name, classmethod(_and_notify(getattr(FakeBucket, name))))


def _tell(execution: Execution, status: str) -> None:
    """Send the event that an execution has a status now."""
    told = execution.to_describe_output() if status != "RUNNING" else {}
    stopped = told.get("stopDate")
    detail = {
        "executionArn": execution.exec_arn,
        "stateMachineArn": execution.state_machine.arn,
        "name": execution.name,
        "status": status,
        "startDate": _milliseconds(execution.start_date),
        "stopDate": _milliseconds(stopped) if stopped else None,
        "input": execution.execution_input,
        **{name: told.get(name) for name in ("output", "error", "cause")},
    }
    put = {
        "Source": "aws.states",
        "DetailType": EXECUTIONS,
        "Resources": [execution.exec_arn],
        "Detail": json.dumps(detail),
    }
    backend = events_backends[execution.account_id][execution.region_name]
    _in_background(backend.put_events, [put])


def _milliseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)


def _service(target: Mapping[str, Any]) -> str:
    return str(target["Arn"].split(":")[2])


def _start(target: Mapping[str, Any], event: Any) -> None:
    _START[_service(target)](target["Arn"], _text(target, event))


def _call(arn: str, text: str) -> None:
    _, _, _, region, account_id, *_ = arn.split(":")
    get_backend(account_id, region).get_function(arn).invoke(text, {}, {})


def _start_execution(arn: str, text: str) -> None:
    _, _, _, region, account_id, *_ = arn.split(":")
    backend = stepfunctions_parser_backends[account_id][region]
    backend.start_execution(arn, str(uuid.uuid4()), text)


_START: Mapping[str, Callable[[str, str], None]] = {"lambda": _call, "states": _start_execution}


def _text(target: Mapping[str, Any], event: Any) -> str:
    """Return what a target gets of an event, a JSON text."""
    if "Input" in target:
        return str(target["Input"])
    told = event | {"time": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"}
    told.pop("ingestion-time", None)
    if "InputPath" in target:
        [told] = [found.value for found in json_path(target["InputPath"]).find(told)]
    return json.dumps(told)


def _and_notify(put: Callable[..., FakeBucket]) -> Callable[..., FakeBucket]:
    def put_and_notify(_: type[FakeBucket], /, *args: Any, **more: Any) -> FakeBucket:
        bucket = put(*args, **more)
        template = more.get("cloudformation_json") or args[1]
        declared = template.get("Properties", {}).get("NotificationConfiguration")
        bucket.set_notification_configuration(declared and _as_moto_has_it(declared))
        return bucket

    return put_and_notify


def _as_moto_has_it(declared: Mapping[str, Any]) -> dict[str, Any]:
    """Return the notifications that a template declares, in the words of S3's API."""
    found: dict[str, Any] = {}
    for name, property_ in (("CloudFunction", "Function"), ("Queue", "Queue"), ("Topic", "Topic")):
        prefix = "Lambda" if name == "CloudFunction" else name
        found[f"{name}Configuration"] = [
            {name: each[property_], "Event": [each["Event"]], "Filter": _filter(each)}
            for each in declared.get(f"{prefix}Configurations", [])
        ]
    if declared.get("EventBridgeConfiguration", {}).get("EventBridgeEnabled"):
        found["EventBridgeConfiguration"] = {}
    return found


def _filter(declared: Mapping[str, Any]) -> dict[str, Any]:
    rules = declared.get("Filter", {}).get("S3Key", {}).get("Rules", [])
    named = [{"Name": rule["Name"].lower(), "Value": rule["Value"]} for rule in rules]
    return {"S3Key": {"FilterRule": named}} if named else {}


def _in_background(work: Callable[..., object], *args: object) -> None:
    Thread(target=work, args=args, daemon=True).start()
