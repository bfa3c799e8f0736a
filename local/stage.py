"""A whole stage on this machine: Totesys in PostgreSQL, and the service on the AWS stand-in.

`with LocalStage() as stage:` starts and deploys it, and removes it at the end.
"""

from __future__ import annotations

import json
import tempfile
import uuid
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from local import REPOSITORY, totesys
from local.aws.deployment import run_sls
from local.aws.execution import Execution, execute
from local.aws.function_log import FunctionLog
from local.aws.stand_in import LocalAws
from local.aws.template import decided, physical_names
from local.landed import Landed
from local.totesys.database import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from pg8000.native import Connection

    type Step = Callable[[str], AbstractContextManager[None]]

STAGE = "local"
STACK = f"totesys-ingestion-{STAGE}"
SECRET = f"{STAGE}/totesys"
DATABASE = "totesys"
BUCKET = "LandingBucket"  # its logical name


def _silently(_title: str) -> AbstractContextManager[None]:
    return nullcontext()


@dataclass(frozen=True)
class Invocation:
    """A function's answer: its result, or `errorType` and `errorMessage` if it failed."""

    failed: bool
    payload: Any


class LocalStage:
    """The stage while it runs; a context manager.

    Attributes:
        stack: The name of its CloudFormation stack.
        server: The PostgreSQL server.
        database: A connection to Totesys, with write access.
        aws: The stand-in for AWS.
        landed: The bucket.
        log: The function's log.
        function_name: The ingestion's function.
        reconcile_name: The function of the nightly reconciliation.
        reconcile_log: Its log.
        state_machine_arn: The state machine.
        load_arn: The one of loads.
    """

    stack = STACK
    server: Server
    database: Connection
    aws: LocalAws
    landed: Landed
    log: FunctionLog
    function_name: str
    reconcile_name: str
    reconcile_log: FunctionLog
    state_machine_arn: str
    load_arn: str

    def __init__(
        self, events: int = 2000, step: Step = _silently, folder: Path = REPOSITORY
    ) -> None:
        """Prepare a stage; entering it starts it.

        Args:
            events: How many business events, of three rows each, Totesys has at first.
            step: Called with a title for a context manager around each step of the start.
            folder: What is deployed, if it is another checkout than this one.
        """
        self._events = events
        self._folder = folder
        self._step = step

    def __enter__(self) -> Self:
        """Start the database and the stand-in, and deploy.

        Raises:
            RuntimeError: One of them failed; the message has the end of its log.
        """
        with ExitStack() as stack:
            with self._step(f"PostgreSQL with {self._events:,} business events in Totesys"):
                self._start_database(stack)
            with self._step("AWS stand-in"):
                self.aws = stack.enter_context(LocalAws())
            with self._step(f"sls deploy --stage {STAGE}"):
                self._deploy()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info: object) -> None:
        """Stop everything and delete what it wrote."""
        self._stack.close()

    def run(self, event: object = None) -> Execution:
        """Run the state machine to its end, by default for all tables."""
        client = self.aws.client("stepfunctions")
        return execute(client, self.state_machine_arn, json.dumps(event or {}))

    def load(self, table: str, workers: int) -> Execution:
        """Load a table by the state machine of loads."""
        client = self.aws.client("stepfunctions")
        return execute(client, self.load_arn, json.dumps({"table": table, "workers": workers}))

    def invoke(self, event: object) -> Invocation:
        """Call the function without the state machine."""
        return self._invoke(self.function_name, event)

    def reconcile(self) -> Invocation:
        """Call the function of the nightly reconciliation."""
        return self._invoke(self.reconcile_name, {})

    def _invoke(self, name: str, event: object) -> Invocation:
        client = self.aws.client("lambda")
        answer = client.invoke(FunctionName=name, Payload=json.dumps(event))
        return Invocation("FunctionError" in answer, json.loads(answer["Payload"].read()))

    def resources(self) -> dict[str, Any]:
        """Return the resources of the deployed template; conditions are decided."""
        client = self.aws.client("cloudformation")
        template = client.get_template(StackName=STACK)["TemplateBody"]
        resources: dict[str, Any] = decided(template["Resources"], template)
        return resources

    def next_call_is_cold(self) -> None:
        """Change the configuration, so that the next call starts a new process, as on AWS."""
        client = self.aws.client("lambda")
        client.update_function_configuration(
            FunctionName=self.function_name, Description=f"cold start {uuid.uuid4()}"
        )

    def set_variables(self, **variables: str) -> None:
        """Set environment variables of the function and keep the others."""
        client = self.aws.client("lambda")
        found = client.get_function_configuration(FunctionName=self.function_name)
        client.update_function_configuration(
            FunctionName=self.function_name,
            Environment={"Variables": found["Environment"]["Variables"] | variables},
        )

    def set_secret(self, secret: Mapping[str, str | int]) -> None:
        """Replace the database's credentials in Secrets Manager."""
        client = self.aws.client("secretsmanager")
        client.put_secret_value(SecretId=SECRET, SecretString=json.dumps(secret))

    def _start_database(self, stack: ExitStack) -> None:
        self.server = stack.enter_context(Server.start())
        self.server.create_database(DATABASE)
        self.database = stack.enter_context(closing(self.server.connect(DATABASE)))
        totesys.create(self.database)
        totesys.seed(self.database, self._events)

    def _deploy(self) -> None:
        secret = json.dumps(self.server.secret(DATABASE))
        self.aws.client("secretsmanager").create_secret(Name=SECRET, SecretString=secret)
        environ = self.aws.subprocess_environ()
        with tempfile.TemporaryDirectory(prefix="local-stage-") as folder:
            run_sls("deploy", STAGE, environ, Path(folder) / "deploy.log", folder=self._folder)
        self._find_deployed()

    def _find_deployed(self) -> None:
        names = physical_names(self.aws.client("cloudformation"), STACK)
        self.function_name = names["IngestLambdaFunction"]
        self.state_machine_arn = names["IngestionStateMachine"]
        self.load_arn = names["LoadStateMachine"]
        self.landed = Landed(self.aws.client("s3"), names[BUCKET])
        self.log = FunctionLog(self.aws.client("logs"), self.function_name)
        self.reconcile_name = names["ReconcileLambdaFunction"]
        self.reconcile_log = FunctionLog(self.aws.client("logs"), self.reconcile_name)
