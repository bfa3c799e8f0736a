"""What is deployed: the template that `sls package` compiles out of serverless.yml."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml

from services.ingestion.handler import Settings
from services.reconciliation.handler import Settings as ReconciliationSettings
from shared import errors
from tests.e2e.package.packaged import REPOSITORY, SWITCHED

if TYPE_CHECKING:
    from tests.e2e.package.packaged import Package

pytestmark = pytest.mark.e2e

# The framework repeats in DependsOn what a reference says already; it does no harm.
REDUNDANT = tuple(
    f"W3005 '{role}' dependency already enforced by a 'GetAtt'"
    for role in ("IngestRole", "ReconcileRole")
)
SERVICE_ERRORS = {  # Lambda's own, as Step Functions spells them
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.TooManyRequestsException",
}


def test_cfn_lint_finds_nothing(prod: Package, switched: Package):
    templates = [str(path) for path in prod.templates + switched.templates]
    assert len(templates) == 4
    lint = str(Path(sys.executable).parent / "cfn-lint")
    done = subprocess.run(
        [lint, "--format", "json", "--regions", "eu-west-2", "--", *templates],
        capture_output=True,
        text=True,
    )
    findings = [f"{each['Rule']['Id']} {each['Message']}" for each in json.loads(done.stdout)]
    assert [each for each in findings if not each.startswith(REDUNDANT)] == []


def test_contents_page_is_short_and_complete(prod: Package):
    page = (REPOSITORY / "serverless.yml").read_text()
    assert len(page.splitlines()) <= 120
    assert "rate(10 minutes)" in page
    files = [path for path in REPOSITORY.glob("resources/*.yml") if path.name != "options.yml"]
    written = {name for path in files for name in yaml.safe_load(path.read_text())}
    assert len(written) > 20
    assert written - set(prod.template["Resources"]) == set()


def test_schedule(prod: Package, switched: Package):
    rule = prod.properties("IngestionStepFunctionsEventsRuleSchedule1")
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(10 minutes)", "ENABLED")
    (target,) = rule["Targets"]
    assert target["Input"] == "{}"
    assert target["Arn"] == {"Ref": "IngestionStateMachine"}
    assert target["RoleArn"] == {"Fn::GetAtt": ["ScheduleRole", "Arn"]}
    rules = switched.of_type("AWS::Events::Rule").values()
    assert [rule["State"] for rule in rules] == ["DISABLED", "DISABLED"]


def test_reconcile_runs_at_night(prod: Package):
    rule = prod.properties("ReconcileEventsRuleSchedule1")
    assert (rule["ScheduleExpression"], rule["State"]) == ("cron(15 2 * * ? *)", "ENABLED")
    (target,) = rule["Targets"]
    assert target["Input"] == "{}"
    assert target["Arn"] == {"Fn::GetAtt": ["ReconcileLambdaFunction", "Arn"]}
    function = prod.properties("ReconcileLambdaFunction")
    assert function["Role"] == {"Fn::GetAtt": ["ReconcileRole", "Arn"]}
    assert function["Layers"] == [{"Ref": "PythonRequirementsLambdaLayer"}]
    variables = function["Environment"]["Variables"]
    ReconciliationSettings.from_env(variables)
    both = {name for name, _ in variables.items() & prod.environment.items()}
    assert both >= {*ReconciliationSettings.variables()}


def test_state_machine(prod: Package, switched: Package):
    machine = prod.properties("IngestionStateMachine")
    assert machine["StateMachineName"] == "prod-ingestion"
    assert machine["LoggingConfiguration"]["Level"] == "ERROR"
    assert not machine["LoggingConfiguration"]["IncludeExecutionData"]
    assert switched.properties("IngestionStateMachine")["StateMachineName"] == "dev-ingestion"


def test_state_machine_retries_exactly_the_transient_errors(prod: Package):
    retriers = prod.definition["States"]["Ingest"]["Retry"]
    retried = {name for retrier in retriers for name in retrier["ErrorEquals"]}
    assert retried == transient_errors() | SERVICE_ERRORS
    assert sum(len(retrier["ErrorEquals"]) for retrier in retriers) == len(retried)


def transient_errors() -> set[str]:
    ours = [value for value in vars(errors).values() if isinstance(value, type)]
    return {kind.__name__ for kind in ours if getattr(kind, "transient", False)}


def test_state_machine_backs_off_with_jitter(prod: Package):
    for retrier in prod.definition["States"]["Ingest"]["Retry"]:
        assert retrier["JitterStrategy"] == "FULL"
        assert retrier["BackoffRate"] > 1
        assert retrier["MaxAttempts"] >= 3
        assert retrier["MaxDelaySeconds"] <= 60


def test_executions_do_not_overlap_and_let_the_last_call_end(prod: Package):
    longest = prod.definition["TimeoutSeconds"]
    timeout = prod.properties("IngestLambdaFunction")["Timeout"]
    assert int(prod.environment["BACKLOG_SECONDS"]) + timeout < longest < 600


def test_function_is_called_again_for_more_and_only_by_a_young_execution(prod: Package):
    (choice,) = prod.definition["States"]["IsThereMore"]["Choices"]
    more, young = choice["And"]
    assert more == {"Variable": "$.more", "BooleanEquals": True}
    assert young["Variable"] == "$$.Execution.StartTime"
    assert young["TimestampGreaterThanPath"] == "$.again_if_started_after"
    assert choice["Next"] == prod.definition["StartAt"] == "Ingest"
    assert prod.definition["States"]["IsThereMore"]["Default"] == "Done"


def test_each_call_gets_the_input_of_the_execution(prod: Package):
    assert prod.definition["States"]["Ingest"]["Parameters"]["Payload.$"] == "$$.Execution.Input"


def test_environment_is_what_the_settings_read(prod: Package, switched: Package):
    for package in (prod, switched):
        names = {name for name in package.environment if not name.startswith("POWERTOOLS_")}
        assert names == set(Settings.variables())
        assert all(isinstance(value, str) for value in package.environment.values())
        Settings.from_env(package.environment)


def test_function(prod: Package):
    function = prod.properties("IngestLambdaFunction")
    assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["x86_64"])
    assert function["Layers"] == [{"Ref": "PythonRequirementsLambdaLayer"}]
    assert function["Role"] == {"Fn::GetAtt": ["IngestRole", "Arn"]}
    assert function["Description"]


def test_vpc_is_there_if_given(prod: Package, switched: Package):
    for name in ("IngestLambdaFunction", "ReconcileLambdaFunction"):
        assert "VpcConfig" not in prod.properties(name)
        assert switched.properties(name)["VpcConfig"] == {
            "SubnetIds": SWITCHED["subnetIds"].split(","),
            "SecurityGroupIds": SWITCHED["securityGroupIds"].split(","),
        }
    assert {action for action in prod.actions("IngestRole") if action.startswith("ec2:")} == set()
    assert {action for action in switched.actions("IngestRole") if action.startswith("ec2:")} == {
        "ec2:CreateNetworkInterface",
        "ec2:DescribeNetworkInterfaces",
        "ec2:DeleteNetworkInterface",
    }
