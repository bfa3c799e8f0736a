"""The stand-in for AWS runs functions as AWS does."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest

from local import REPOSITORY
from local.aws.function_log import FunctionLog
from local.aws.stand_in import LocalAws
from tests.helpers.faults.processes import processes_of

if TYPE_CHECKING:
    from collections.abc import Iterator

HANDLER = """
import importlib.util, os, time

class OddError(Exception):
    pass

def lambda_handler(event, context):
    for line in event.get("print", []):
        print(line)
    if "raise" in event:
        raise OddError(event["raise"])
    if "exit" in event:
        os._exit(event["exit"])
    time.sleep(event.get("sleep", 0))
    bytearray(event.get("megabytes", 0) << 20)
    return {
        "pid": os.getpid(),
        "environ": dict(os.environ),
        "found": {n: bool(importlib.util.find_spec(n)) for n in event.get("find", [])},
        "context": [
            context.function_name,
            context.memory_limit_in_mb,
            context.invoked_function_arn,
            context.aws_request_id,
            context.get_remaining_time_in_millis(),
        ],
    }
"""


class Answer(NamedTuple):
    error: str | None
    payload: Any


class Function:
    """A deployed function of one file, with one layer."""

    def __init__(self, aws: LocalAws, name: str) -> None:
        self.name = name
        self.client = aws.client("lambda")
        self.log = FunctionLog(aws.client("logs"), name)
        trust = json.dumps({"Version": "2012-10-17", "Statement": []})
        role = aws.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument=trust)
        layer = self.client.publish_layer_version(
            LayerName=name, Content={"ZipFile": zipped({"python/in_layer.py": ""})}
        )
        self.client.create_function(
            FunctionName=name,
            Runtime="python3.13",
            Role=role["Role"]["Arn"],
            Handler="some/package/handler.lambda_handler",
            Code={"ZipFile": zipped({"some/package/handler.py": HANDLER})},
            Layers=[layer["LayerVersionArn"]],
            Environment={"Variables": {"OWN": "variable"}},
            MemorySize=256,
            Timeout=2,
        )

    def invoke(self, **event: object) -> Answer:
        answer = self.client.invoke(FunctionName=self.name, Payload=json.dumps(event))
        return Answer(answer.get("FunctionError"), json.loads(answer["Payload"].read()))

    def folder(self) -> str:
        """Where the stand-in keeps everything."""
        return str(Path(self.invoke().payload["environ"]["HOME"]).parent)

    def configure(self, **changes: object) -> None:
        self.client.update_function_configuration(FunctionName=self.name, **changes)


def zipped(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return content.getvalue()


@pytest.fixture(scope="module")
def aws() -> Iterator[LocalAws]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IN_THE_SHELL", "secret")
        patch.setenv("AWS_PROFILE", "a profile that does not exist")
        patch.setenv("AWS_ENDPOINT_URL_S3", "http://192.0.2.1")
        with LocalAws() as running:
            yield running


@pytest.fixture
def function(aws: LocalAws, request: pytest.FixtureRequest) -> Function:
    return Function(aws, request.node.name)


def test_finds_its_zip_its_layer_and_the_runtime_but_nothing_of_ours(function: Function):
    wanted = ["some", "in_layer", "boto3", "dateutil", "pytest", "moto", "pg8000", "local"]
    found = function.invoke(find=wanted).payload["found"]
    assert [name for name in wanted if found[name]] == ["some", "in_layer", "boto3", "dateutil"]


def test_sees_its_own_environment_and_not_the_shells(function: Function, aws: LocalAws):
    environ = function.invoke().payload["environ"]
    assert environ["OWN"] == "variable"
    assert environ["AWS_ENDPOINT_URL"] == aws.endpoint
    assert environ["AWS_REGION"] == "eu-west-2"
    assert not {"IN_THE_SHELL", "AWS_PROFILE", "AWS_ENDPOINT_URL_S3", "VIRTUAL_ENV"} & {*environ}


def test_context_says_who_and_how_long(function: Function):
    name, memory, arn, request_id, milliseconds = function.invoke().payload["context"]
    assert (name, memory) == (function.name, "256")
    assert arn == f"arn:aws:lambda:eu-west-2:123456789012:function:{function.name}"
    assert f"START RequestId: {request_id} Version: $LATEST" in function.log.lines()
    assert 0 < milliseconds <= 2000


def test_process_is_used_again_until_the_configuration_changes(function: Function):
    first, second = (function.invoke().payload["pid"] for _ in range(2))
    function.configure(Description="another")
    third = function.invoke().payload["pid"]
    assert first == second != third


def test_two_calls_at_once_have_two_processes(function: Function):
    with ThreadPoolExecutor(2) as executor:
        calls = [executor.submit(function.invoke, sleep=0.5) for _ in range(2)]
        pids = {call.result().payload["pid"] for call in calls}
    assert len(pids) == 2


def test_exception_has_the_name_of_its_class(function: Function):
    answer = function.invoke(**{"raise": "two\nlines"})
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "OddError"
    assert answer.payload["errorMessage"] == "two\nlines"
    assert "raise OddError" in answer.payload["stackTrace"][-1]
    assert "[ERROR] OddError: two" in function.log.lines()


@pytest.mark.parametrize(
    ("event", "timeout", "error", "message"),
    [
        ({"sleep": 60}, 1, "Sandbox.Timedout", "Task timed out after 1.00 seconds"),
        (
            {"megabytes": 300},
            60,
            "Runtime.OutOfMemory",
            "Error: Runtime exited with error: signal: killed",
        ),
        ({"exit": 3}, 60, "Runtime.ExitError", "Runtime exited with error: exit status 3"),
    ],
    ids=["timeout", "memory", "exit"],
)
def test_a_process_that_does_not_answer_is_replaced(
    aws: LocalAws, event: dict[str, object], timeout: int, error: str, message: str
):
    function = Function(aws, error.replace(".", "-"))
    function.configure(Timeout=timeout)
    before = function.invoke().payload["pid"]
    answer = function.invoke(**event)
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == error
    assert answer.payload["errorMessage"].endswith(message)
    assert answer.payload["errorMessage"] in function.log.lines()
    assert function.invoke().payload["pid"] != before


def test_handler_that_cannot_be_imported(function: Function):
    function.configure(Handler="some/package/nothing.lambda_handler")
    answer = function.invoke()
    assert answer.error == "Unhandled"
    assert answer.payload["errorType"] == "Runtime.ImportModuleError"


def test_log_has_what_the_function_prints_between_start_and_end(function: Function):
    function.invoke(print=["first", "", "second é"])
    function.invoke(print=["third"])
    kinds = [line.split(" ")[0] for line in function.log.lines()]
    assert kinds == ["START", "first", "second", "END", "REPORT", "START", "third", "END", "REPORT"]
    reports = [line for line in function.log.lines() if line.startswith("REPORT")]
    assert ["Init Duration" in report for report in reports] == [True, False]


def test_log_gives_records_and_metrics(function: Function):
    record = {"level": "INFO", "message": "hello"}
    function.invoke(print=["no JSON", json.dumps(record), '{"no": "record"}'])
    assert function.log.records() == [record]


def test_nothing_is_left_when_it_is_closed():
    with LocalAws() as aws:
        function = Function(aws, "short-lived")
        folder = function.folder()
        assert len(processes_of(folder)) == 2  # moto and the function
    assert processes_of(folder) == []
    assert not Path(folder).exists()


@pytest.mark.long
def test_nothing_runs_on_when_the_one_that_started_it_is_killed():
    program = (
        "from tests.e2e.test_local_functions import Function, LocalAws\n"
        "import signal\n"
        "with LocalAws() as aws:\n"
        "    print(Function(aws, 'f').folder(), flush=True)\n"
        "    signal.pause()\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    ) as starter:
        assert starter.stdout
        folder = starter.stdout.readline().strip()
        assert processes_of(folder)
        starter.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 20
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert processes_of(folder) == []
    assert not Path(folder).exists()
