"""The process that stands in for AWS: moto's server, and what it lacks for a deployed stage.

`local.aws.stand_in.LocalAws` starts it with a folder as its argument. It prints its port when it
is ready. When its standard input ends it deletes the folder and ends: it can't outlive whoever
started it.
It is a process of its own because moto's state is global: a test that uses moto would reset it.

Each function that changes moto says which limit of moto 5.2.5 it works around.
"""

from __future__ import annotations

import os
import shutil
import sys
from datetime import datetime
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import moto.stepfunctions.models
from moto.awslambda.models import LambdaFunction, LayerVersion
from moto.cloudformation import parsing
from moto.cloudformation.exceptions import ValidationError
from moto.cloudformation.models import CloudFormationBackend
from moto.cloudformation.utils import validate_template_cfn_lint
from moto.core.config import default_user_config
from moto.core.responses import BaseResponse
from moto.core.utils import iso_8601_datetime_with_milliseconds
from moto.iam.access_control import PermissionResult
from moto.s3.models import FakeBucket, PublicAccessBlock, s3_backends
from moto.server import ThreadedMotoServer
from moto.stepfunctions.parser.asl.component.state.choice.comparison.operator.implementations.is_operator import (  # noqa: E501
    IsTimestamp,
)
from moto.stepfunctions.parser.asl.eval.evaluation_details import ExecutionDetails
from moto.stepfunctions.parser.models import stepfunctions_parser_backends

import local.aws.moto_resources  # noqa: F401 - CloudFormation knows them once they are imported
from local.aws.functions import Functions
from local.aws.moto_patches import hasten, replace
from local.aws.roll_back import (
    keep_what_is_retained,
    make_buckets_first,
    refuse_to_delete_protected_stacks,
    roll_back_failed_updates,
)
from local.aws.triggers import fire_triggers
from local.aws.unfired import refuse_what_is_not_fired

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

_REQUEST_ID = "x-amzn-requestid"


def run_state_machines() -> None:
    """Let executions run; by default moto only records that they were started.

    CloudFormation would then create state machines where executions do not look for them, so both
    get the same place.
    """
    default_user_config["stepfunctions"]["execute_state_machine"] = True
    replace(moto.stepfunctions.models, "stepfunctions_backends", stepfunctions_parser_backends)


def accept_lint_warnings() -> None:
    """Refuse templates only for cfn-lint's errors; moto refuses them for warnings, too."""

    def errors(_: CloudFormationBackend, template: str) -> list[Any]:
        found = validate_template_cfn_lint(template)
        return [match for match in found if match.rule.severity == "error"]

    replace(CloudFormationBackend, "validate_template", errors)


def resolve_templates_exactly() -> None:
    """Fix two faults in how moto resolves CloudFormation's functions.

    It leaves None in a list that has `AWS::NoValue`. And an `Fn::Sub` that defines variables turns
    `$$` into `$`, so that a state machine looks for `$.Execution` in its input.
    """
    clean = parsing.clean_json

    def clean_exactly(node: Any, resources: Any) -> Any:
        if isinstance(node, dict) and isinstance(node.get("Fn::Sub"), list):
            template, variables = node["Fn::Sub"]
            for name, value in variables.items():
                template = template.replace(f"${{{name}}}", str(clean_exactly(value, resources)))
            node = {"Fn::Sub": template}
        cleaned = clean(node, resources)
        if isinstance(cleaned, list):
            return [item for item in cleaned if item is not None]
        return cleaned

    replace(parsing, "clean_json", clean_exactly)


def keep_layers() -> None:
    """Give new functions their layers; moto's CloudFormation does so on updates only.

    A `Ref` to a layer must be its ARN for that, not one of moto's objects. A layer that was changed
    is published anew, from its zip, which must exist; moto leaves the old one.
    """

    def publish(
        cls: type[LayerVersion], /, *_: Any, new_resource_name: str, **found: Any
    ) -> LayerVersion:
        found.pop("original_resource")
        published: LayerVersion = cls.create_from_cloudformation_json(new_resource_name, **found)
        if not published.code_size:
            raise ValidationError(message="Error occurred while GetObject: NoSuchKey, no such zip")
        return published

    replace(LayerVersion, "update_from_cloudformation_json", classmethod(publish))
    name = "create_from_cloudformation_json"
    create = getattr(LambdaFunction, name)

    def create_with_layers(
        _: type[LambdaFunction], resource: str, template: dict[str, Any], *args: Any, **more: Any
    ) -> LambdaFunction:
        function: LambdaFunction = create(resource, template, *args, **more)
        function.update_configuration({"Layers": template["Properties"].get("Layers", [])})
        return function

    replace(LambdaFunction, name, classmethod(create_with_layers))
    setattr(LayerVersion, "physical_resource_id", LayerVersion.arn)  # noqa: B010


def keep_bucket_settings() -> None:
    """Give new buckets their versioning, and no public access: moto's CloudFormation does not."""
    name = "create_from_cloudformation_json"
    create = getattr(FakeBucket, name)

    def create_with_settings(
        _: type[FakeBucket], resource: str, template: dict[str, Any], *args: Any, **more: Any
    ) -> FakeBucket:
        bucket: FakeBucket = create(resource, template, *args, **more)
        properties = template.get("Properties", {})
        bucket.versioning_status = properties.get("VersioningConfiguration", {}).get("Status")
        if blocked := properties.get("PublicAccessBlockConfiguration"):
            settings = (
                blocked.get("BlockPublicAcls"),
                blocked.get("IgnorePublicAcls"),
                blocked.get("BlockPublicPolicy"),
                blocked.get("RestrictPublicBuckets"),
            )
            bucket.public_access_block = PublicAccessBlock(*settings)
        return bucket

    replace(FakeBucket, name, classmethod(create_with_settings))


def take_requests_without_tls() -> None:
    """Keep bucket policies without enforcing them: moto does so without their conditions.

    Ours then denies everything, and it denies what comes without TLS, as it does here.
    """
    replace(FakeBucket, "get_permission", lambda *_: PermissionResult.NEUTRAL)


def refuse_to_delete_full_buckets() -> None:
    """Fail to remove a stack whose bucket holds objects; moto silently keeps the bucket."""
    name = "delete_from_cloudformation_json"
    delete = getattr(FakeBucket, name)

    def delete_if_empty(_: type[FakeBucket], resource: str, *args: Any) -> None:
        delete(resource, *args)
        if any(resource in backend["aws"].buckets for backend in s3_backends.values()):
            raise ValidationError(message=f"The bucket {resource} is not empty.")

    replace(FakeBucket, name, classmethod(delete_if_empty))


def run_functions(functions: Functions) -> None:
    """Run functions in processes; moto needs Docker, and an image from the internet.

    Of an asynchronous call it waits for the answer, too.
    """

    def call_until_it_succeeds(function: LambdaFunction, event: bytes) -> None:
        """Retry twice, as Lambda does, but at once."""
        for _ in range(3):
            if functions.invoke(function, event).kind == "response":
                return

    def invoke(
        self: LambdaFunction,
        body: str,
        headers: Mapping[str, str],
        response_headers: MutableMapping[str, str],
    ) -> bytes:
        event = (body or "{}").encode()
        if headers.get("X-Amz-Invocation-Type") == "Event":
            Thread(target=call_until_it_succeeds, args=(self, event), daemon=True).start()
            return b""
        answer = functions.invoke(self, event)
        if answer.kind != "response":
            response_headers["x-amz-function-error"] = "Unhandled"
        response_headers[_REQUEST_ID] = answer.request_id
        return answer.body

    replace(LambdaFunction, "invoke", invoke)


def keep_request_ids() -> None:
    """Let the answer of a call have the request id in its log; moto makes up another one."""
    name = "_enrich_response"
    enrich = getattr(BaseResponse, name)

    def enrich_and_keep(headers: dict[str, str], body: Any) -> tuple[dict[str, str], Any]:
        own = headers.get(_REQUEST_ID)
        headers, body = enrich(headers, body)
        return (headers | {_REQUEST_ID: own} if own else headers), body

    replace(BaseResponse, name, staticmethod(enrich_and_keep))


def tell_executions_when_they_started() -> None:
    """Give a state machine its start time as text; moto has a datetime, and refuses fractions."""
    create = ExecutionDetails.__init__

    def create_with_text(self: ExecutionDetails, *args: Any, **more: Any) -> None:
        create(self, *args, **more)
        text = iso_8601_datetime_with_milliseconds(datetime.fromisoformat(str(self.start_time)))
        object.__setattr__(self, "start_time", text)  # it is said to be final

    replace(ExecutionDetails, "__init__", create_with_text)
    replace(IsTimestamp, "string_to_timestamp", staticmethod(datetime.fromisoformat))


def main(folder: Path) -> None:
    """Serve until standard input ends."""
    run_state_machines()
    accept_lint_warnings()
    resolve_templates_exactly()
    keep_layers()
    keep_bucket_settings()
    take_requests_without_tls()
    refuse_to_delete_full_buckets()
    roll_back_failed_updates()
    keep_what_is_retained()
    make_buckets_first()
    refuse_to_delete_protected_stacks()
    tell_executions_when_they_started()
    fire_triggers()
    refuse_what_is_not_fired()
    keep_request_ids()
    hasten()
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    os.environ["MOTO_PORT"] = str(port)  # the state machines' way to Lambda
    functions = Functions(folder / "functions", f"http://127.0.0.1:{port}")
    run_functions(functions)
    print(port, flush=True)
    sys.stdout = sys.stderr  # nobody reads it any more, and moto sometimes prints
    sys.stdin.read()
    functions.stop()
    shutil.rmtree(folder)
    os._exit(0)  # without waiting for the threads of executions that still run


if __name__ == "__main__":
    main(Path(sys.argv[1]))
