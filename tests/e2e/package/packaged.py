"""What `sls package` makes, for tests to look into."""

from __future__ import annotations

import json
import re
import zipfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from local.aws.template import decided

if TYPE_CHECKING:
    from collections.abc import Iterator

REPOSITORY = Path(__file__).resolve().parents[3]

# The opposite of every default that switches something on or off.
SWITCHED = {
    "bucketName": "bucket-of-somebody",
    "createBucket": "false",
    "alarmEmail": "data@example.com",
    "scheduleEnabled": "false",
    "subnetIds": "subnet-11111111,subnet-22222222",
    "securityGroupIds": "sg-11111111",
    "timeoutSeconds": "120",
}


@dataclass(frozen=True)
class Package:
    """The folder that `sls package` filled."""

    folder: Path

    @property
    def templates(self) -> list[Path]:
        """The templates: of the stack's creation and of its update, which is the whole of it."""
        return sorted(self.folder.glob("cloudformation-template-*.json"))

    @cached_property
    def template(self) -> dict[str, Any]:
        """The template as it was compiled."""
        path = self.folder / "cloudformation-template-update-stack.json"
        template: dict[str, Any] = json.loads(path.read_text())
        return template

    @cached_property
    def resources(self) -> dict[str, Any]:
        """The resources that CloudFormation would make of it: conditions are decided."""
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

    def statements(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Each statement of each role, with the role's name."""
        for name, role in self.of_type("AWS::IAM::Role").items():
            for policy in role["Policies"]:
                for statement in policy["PolicyDocument"]["Statement"]:
                    yield name, statement

    def actions(self, role: str) -> set[str]:
        """What a role allows."""
        of_role = (statement for name, statement in self.statements() if name == role)
        return {action for statement in of_role for action in listed(statement["Action"])}

    @cached_property
    def definition(self) -> dict[str, Any]:
        """The state machine's definition."""
        text, _ = self.properties("IngestionStateMachine")["DefinitionString"]["Fn::Sub"]
        definition: dict[str, Any] = json.loads(text)
        return definition

    @cached_property
    def environment(self) -> dict[str, str]:
        """The function's environment."""
        variables: dict[str, str]
        variables = self.properties("IngestLambdaFunction")["Environment"]["Variables"]
        return variables

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


def alarm_names(rule: dict[str, str]) -> list[str]:
    """The resources named in the rule of a composite alarm."""
    return re.findall(r"\$\{(\w+)\}", rule["Fn::Sub"])
