"""What `sls package` makes, for tests to look into."""

from __future__ import annotations

import json
import zipfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.aws.template import decided

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[3]

# The opposite of every default that switches something on or off, and other values for the rest.
SWITCHED = {
    "bucketName": "bucket-of-somebody",
    "databaseSecret": "somewhere/else",
    "databaseCaFile": "shared/rds-ca/eu-west-1.pem",
    "memoryMegabytes": "1024",
    "storageMegabytes": "2048",
    "batchRows": "20000",
    "writerWaitSeconds": "11",
    "statementTimeoutSeconds": "22",
    "backlogSeconds": "33",
    "tombstones": "false",
    "proofDays": "44",
    "withoutChanges": "design",
    "createBucket": "false",
    "createLogGroups": "false",
    "createsOnly": "false",
    "alarmEmail": "data@example.com",
    "alarmTopicKey": "arn:aws:kms:eu-west-2:123456789012:key/11111111-2222-3333-4444-555555555555",
    "scheduleEnabled": "false",
    "subnetIds": "subnet-11111111,subnet-22222222",
    "securityGroupIds": "sg-11111111",
    "timeoutSeconds": "120",
}


class Stack:
    """A compiled template.

    Attributes:
        template: with conditions, as it is sent to CloudFormation.
    """

    def __init__(self, template: dict[str, Any]) -> None:
        """Take a template."""
        self.template = template

    @cached_property
    def resources(self) -> dict[str, Any]:
        """The resources that CloudFormation would create: conditions are decided."""
        deployed: dict[str, Any] = decided(self.template["Resources"], self.template)
        return deployed

    def properties(self, name: str) -> dict[str, Any]:
        """The properties of one resource."""
        properties: dict[str, Any] = self.resources[name]["Properties"]
        return properties

    def of_type(self, kind: str) -> dict[str, Any]:
        """The properties of all resources of a type, by name."""
        return {
            name: resource["Properties"]
            for name, resource in self.resources.items()
            if resource["Type"] == kind
        }

    @cached_property
    def functions(self) -> dict[str, Any]:
        """The properties of every function, by the name of its resource."""
        return self.of_type("AWS::Lambda::Function")

    @property
    def has_log_groups(self) -> bool:
        """Whether the stack makes its log groups, or finds those that a removal left behind."""
        return bool(self.of_type("AWS::Logs::LogGroup"))

    def variables(self, function: str) -> dict[str, str]:
        """The environment of a function."""
        variables: dict[str, str] = self.functions[function]["Environment"]["Variables"]
        return variables

    def statements(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each statement of each role, with the role's name."""
        for name, role in self.of_type("AWS::IAM::Role").items():
            for policy in role["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield name, statement

    def statements_of(self, role: str) -> list[dict[str, Any]]:
        """The statements of a role."""
        return [statement for name, statement in self.statements() if name == role]

    def actions(self, role: str) -> set[str]:
        """What a role allows."""
        return {
            action
            for statement in self.statements_of(role)
            for action in listed(statement["Action"])
        }

    @cached_property
    def definition(self) -> dict[str, Any]:
        """The definition of the state machine that runs by the schedule."""
        return self.definition_of("IngestionStateMachine")

    def definition_of(self, machine: str) -> dict[str, Any]:
        """The definition of a state machine."""
        text, _ = self.properties(machine)["DefinitionString"]["Fn::Sub"]
        definition: dict[str, Any] = json.loads(text)
        return definition

    @cached_property
    def environment(self) -> dict[str, str]:
        """The environment of the ingest function."""
        return self.variables("IngestLambdaFunction")


class Package(Stack):
    """The folder that `sls package` filled."""

    def __init__(self, folder: Path) -> None:
        """Take the folder."""
        path = folder / "cloudformation-template-update-stack.json"
        super().__init__(json.loads(path.read_text()))
        self.folder = folder

    @property
    def templates(self) -> list[Path]:
        """The templates: of the stack's creation and of its update, which is the whole of it."""
        return sorted(self.folder.glob("cloudformation-template-*.json"))

    @cached_property
    def function(self) -> zipfile.ZipFile:
        """The function's code."""
        return zipfile.ZipFile(self.folder / "totesys-ingestion.zip")

    @cached_property
    def layer(self) -> zipfile.ZipFile:
        """The layer's code."""
        return zipfile.ZipFile(self.folder / "pythonRequirements.zip")


def listed(value: Any) -> list[Any]:
    """A list as it is, anything else as a list of one, as in policies."""
    return value if isinstance(value, list) else [value]


def role_of(function: dict[str, Any]) -> str:
    """The resource that is a function's role."""
    name, attribute = function["Role"]["Fn::GetAtt"]
    assert attribute == "Arn"
    return str(name)


def metrics(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """The metrics an alarm looks at."""
    if "MetricName" in alarm:
        return [alarm]
    return [each["MetricStat"]["Metric"] for each in alarm["Metrics"] if "MetricStat" in each]


def dimensions(metric: dict[str, Any]) -> dict[str, Any]:
    """The dimensions of a metric, values by name."""
    return {each["Name"]: each["Value"] for each in metric.get("Dimensions", [])}
