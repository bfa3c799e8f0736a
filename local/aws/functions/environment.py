"""What surrounds a Lambda handler on AWS: environment variables, log, and answers in its place."""

from __future__ import annotations

import json
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from local.aws.functions.runtime_api import Answer, Call
from local.aws.functions.sandbox import Sandbox

if TYPE_CHECKING:
    from pathlib import Path

    from moto.awslambda.models import LambdaFunction


class Environment:
    """One execution environment of a function: a process with its own log stream."""

    def __init__(
        self, function: LambdaFunction, folders: list[Path], home: Path, endpoint: str
    ) -> None:
        """Start the process, which imports the handler.

        Args:
            function: as deployed.
            folders: where it finds modules.
            home: a folder that keeps its output until the output is in the log.
            endpoint: the address of AWS.
        """
        name = uuid.uuid4().hex
        self._function = function
        self._log_stream = f"{datetime.now(UTC):%Y/%m/%d}/[$LATEST]{name}"
        function.logs_backend.ensure_log_group(function.logs_group_name)
        function.logs_backend.create_log_stream(function.logs_group_name, self._log_stream)
        variables = self._variables(folders[0], home, endpoint)
        self._sandbox = Sandbox(str(function.handler), folders, variables, home / f"{name}.log")
        self._cold = True

    @property
    def alive(self) -> bool:
        """Tell whether it can take another event."""
        return self._sandbox.alive

    def invoke(self, event: bytes) -> Answer:
        """Call the handler and write the log; stop if it does not answer."""
        function = self._function
        call = Call(str(uuid.uuid4()), event, function.function_arn, float(function.timeout))
        answer, taken = self._sandbox.invoke(call)
        if self._sandbox.peak_memory() > function.memory_size:
            answer = Answer("memory", at=answer.at)
        report = self._report(call, answer, taken)
        words = self._last_words(call, answer)
        if answer.kind not in {"response", "error"}:
            self.stop()
        self._write_log(call, words, report)
        self._cold = False
        body = answer.body or json.dumps(words).encode()
        return replace(answer, body=body, request_id=call.request_id)

    def stop(self) -> None:
        """Kill the process."""
        self._sandbox.stop()

    def _last_words(self, call: Call, answer: Answer) -> dict[str, str]:
        """Return what AWS answers in the place of a handler that can't."""
        if answer.kind == "timeout":
            name, what = "Sandbox.Timedout", f"Task timed out after {call.timeout:.2f} seconds"
        elif answer.kind == "exit":
            status = self._sandbox.exit_status or 0
            how = "signal: killed" if status < 0 else f"exit status {status}"
            name, what = "Runtime.ExitError", f"Runtime exited with error: {how}"
        elif answer.kind == "memory":
            name, what = "Runtime.OutOfMemory", "Runtime exited with error: signal: killed"
        else:
            return {}
        return {"errorType": name, "errorMessage": f"RequestId: {call.request_id} Error: {what}"}

    def _report(self, call: Call, answer: Answer, taken: float) -> str:
        milliseconds = (answer.at - taken) * 1000
        parts = [
            f"REPORT RequestId: {call.request_id}",
            f"Duration: {milliseconds:.2f} ms",
            f"Billed Duration: {int(milliseconds) + 1} ms",
            f"Memory Size: {self._function.memory_size} MB",
            f"Max Memory Used: {self._sandbox.peak_memory()} MB",
        ]
        if self._cold:
            parts.append(f"Init Duration: {(taken - self._sandbox.started) * 1000:.2f} ms")
        if answer.kind != "response":
            parts.append(f"Status: {'timeout' if answer.kind == 'timeout' else 'error'}")
        return "\t".join(parts)

    def _write_log(self, call: Call, words: dict[str, str], report: str) -> None:
        lines = [
            f"START RequestId: {call.request_id} Version: $LATEST",
            *filter(None, self._sandbox.new_output()),
            *([words["errorMessage"]] if words else []),
            f"END RequestId: {call.request_id}",
            report,
        ]
        now = int(time.time() * 1000)
        events = [{"timestamp": now, "message": line} for line in lines]
        group = self._function.logs_group_name
        self._function.logs_backend.put_log_events(group, self._log_stream, events)

    def _variables(self, task_root: Path, home: Path, endpoint: str) -> dict[str, str]:
        """Return the function's own variables, and those that AWS defines for every function."""
        function = self._function
        return {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_SESSION_TOKEN": "local",
            "AWS_REGION": function.region,
            "AWS_DEFAULT_REGION": function.region,
            "AWS_EXECUTION_ENV": f"AWS_Lambda_{function.run_time}",
            "AWS_LAMBDA_FUNCTION_NAME": function.function_name,
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": str(function.memory_size),
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_INITIALIZATION_TYPE": "on-demand",
            "AWS_LAMBDA_LOG_GROUP_NAME": function.logs_group_name,
            "AWS_LAMBDA_LOG_STREAM_NAME": self._log_stream,
            "_HANDLER": str(function.handler),
            "LAMBDA_TASK_ROOT": str(task_root),
            "HOME": str(home),
            "LANG": "en_US.UTF-8",
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "TZ": ":UTC",
            **function.environment_vars,
        }
