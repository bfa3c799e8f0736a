"""What is deployed: the template that `sls package` compiles out of serverless.yml."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from services.ingestion.handler import Settings
from services.ingestion.loads import Item
from services.reconciliation.handler import Settings as ReconciliationSettings
from tests.e2e.package.packaged import REPOSITORY, SWITCHED, role_of
from tests.e2e.package.transient import transient_errors

if TYPE_CHECKING:
    from tests.e2e.package.packaged import Package, Stack

pytestmark = pytest.mark.e2e

# What AWS says of a fail-over of RDS: "typically 60-120 seconds".
FAIL_OVER_SECONDS = 120
CONNECT_SECONDS = 5  # after which a call gives up, if the server does not refuse sooner
SERVICE_ERRORS = {  # Lambda's own, as Step Functions spells them
    "Lambda.ServiceException",
    "Lambda.AWSLambdaException",
    "Lambda.SdkClientException",
    "Lambda.ClientExecutionTimeoutException",
    "Lambda.TooManyRequestsException",
}
DECLARED = """

class WarehouseUnavailableError(PipelineError):
    transient = True


class WarehouseBusyError(WarehouseUnavailableError):
    pass
"""
RAISING = """
from shared.errors import WarehouseBusyError

def load():
    raise WarehouseBusyError
"""
CALLING = """

def late():
    from services.warehouse.handler import load

    load()
"""
VARIABLES = {
    "BUCKET_NAME": "bucketName",
    "DB_SECRET_ID": "databaseSecret",
    "DB_CA_FILE": "databaseCaFile",
    "BATCH_ROWS": "batchRows",
    "WRITER_WAIT_SECONDS": "writerWaitSeconds",
    "STATEMENT_TIMEOUT_SECONDS": "statementTimeoutSeconds",
    "BACKLOG_SECONDS": "backlogSeconds",
    "TOMBSTONES": "tombstones",
    "WITHOUT_CHANGES": "withoutChanges",
    "PROOF_DAYS": "proofDays",
}
IN_VPC = {
    "SubnetIds": SWITCHED["subnetIds"].split(","),
    "SecurityGroupIds": SWITCHED["securityGroupIds"].split(","),
}
NETWORK_INTERFACES = {
    "ec2:CreateNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DeleteNetworkInterface",
}


def test_cfn_lint_finds_nothing(package: Package, switched_package: Package):
    templates = [str(path) for path in package.templates + switched_package.templates]
    assert len(templates) == 4
    lint = str(Path(sys.executable).parent / "cfn-lint")
    done = subprocess.run(
        [lint, "--format", "json", "--regions", "eu-west-2", "--", *templates],
        capture_output=True,
        text=True,
    )
    findings = [f"{each['Rule']['Id']} {each['Message']}" for each in json.loads(done.stdout)]
    # The framework repeats in DependsOn what a reference says already; it does no harm.
    redundant = tuple(
        f"W3005 '{role_of(function)}' dependency already enforced by a 'GetAtt'"
        for function in package.functions.values()
    )
    assert [each for each in findings if not each.startswith(redundant)] == []


def test_contents_page_only_names_things(prod: Stack):
    """Nothing is declared in serverless.yml itself, but that the state machine has a schedule."""
    text = (REPOSITORY / "serverless.yml").read_text()
    assert "rate(10 minutes)" in text
    page = yaml.safe_load(text)
    files = [path for path in REPOSITORY.glob("resources/*.yml") if path.name != "options.yml"]
    written = {
        f"${{file(resources/{path.name}):{name}}}": name
        for path in files
        for name, resource in yaml.safe_load(path.read_text()).items()
        if "Type" in resource  # the others are what resources have in common
    }
    assert len(written) > 20
    assert {text: name for name, text in page["resources"]["Resources"].items()} == written
    assert set(written.values()) <= set(prod.template["Resources"])
    functions = REPOSITORY.glob("services/*/functions.yml")
    assert sorted(page["functions"]) == sorted(
        f"${{file({path.relative_to(REPOSITORY).as_posix()})}}" for path in functions
    )


def test_schedule(prod: Stack, switched: Stack):
    rule = prod.properties("IngestionStepFunctionsEventsRuleSchedule1")
    assert (rule["ScheduleExpression"], rule["State"]) == ("rate(10 minutes)", "ENABLED")
    (target,) = rule["Targets"]
    assert target["Input"] == "{}"
    assert target["Arn"] == {"Ref": "IngestionStateMachine"}
    assert target["RoleArn"] == {"Fn::GetAtt": ["ScheduleRole", "Arn"]}
    rules = switched.of_type("AWS::Events::Rule").values()
    scheduled = [rule for rule in rules if "ScheduleExpression" in rule]
    assert [rule["State"] for rule in scheduled] == ["DISABLED"] * 2


def test_reconciliation_runs_at_night(prod: Stack):
    rule = prod.properties("ReconcileEventsRuleSchedule1")
    assert (rule["ScheduleExpression"], rule["State"]) == ("cron(15 2 * * ? *)", "ENABLED")
    (target,) = rule["Targets"]
    assert target["Input"] == "{}"
    arn = {"Fn::GetAtt": ["ReconcileLambdaFunction", "Arn"]}
    assert target["Arn"] == arn
    assert {
        "FunctionName": arn,
        "Action": "lambda:InvokeFunction",
        "Principal": "events.amazonaws.com",
        "SourceArn": {"Fn::GetAtt": ["ReconcileEventsRuleSchedule1", "Arn"]},
    } in prod.of_type("AWS::Lambda::Permission").values()
    function = prod.properties("ReconcileLambdaFunction")
    assert function["Role"] == {"Fn::GetAtt": ["ReconcileRole", "Arn"]}
    assert function["Layers"] == [{"Ref": "PythonRequirementsLambdaLayer"}]
    variables = function["Environment"]["Variables"]
    ReconciliationSettings.from_env(variables)
    both = {name for name, _ in variables.items() & prod.environment.items()}
    assert both >= {*ReconciliationSettings.variables()} & {*Settings.variables()}


def test_reconciliation_has_the_memory_and_time_that_a_million_rows_take(prod: Stack):
    """They take some 8 s of a whole core, 28 s of what comes with 512 MB, and 130 MB."""
    function = prod.properties("ReconcileLambdaFunction")
    assert function["MemorySize"] >= 512
    assert function["Timeout"] == 900  # the most Lambda gives


def test_state_machine(prod: Stack, switched: Stack):
    machine = prod.properties("IngestionStateMachine")
    assert machine["StateMachineName"] == "prod-ingestion"
    assert machine["LoggingConfiguration"]["Level"] == "ERROR"
    assert not machine["LoggingConfiguration"]["IncludeExecutionData"]
    (destination,) = machine["LoggingConfiguration"]["Destinations"]
    log = {"Fn::GetAtt": ["StateMachineLogGroup", "Arn"]}
    assert destination == {"CloudWatchLogsLogGroup": {"LogGroupArn": log}}
    assert switched.properties("IngestionStateMachine")["StateMachineName"] == "dev-ingestion"


def test_state_machine_retries_exactly_the_transient_errors_of_its_function(prod: Stack):
    retriers = prod.definition["States"]["Ingest"]["Retry"]
    retried = [name for retrier in retriers for name in retrier["ErrorEquals"]]
    handler = prod.properties("IngestLambdaFunction")["Handler"]
    assert sorted(retried) == sorted(transient_errors(REPOSITORY, handler) | SERVICE_ERRORS)


def test_a_load_retries_what_the_schedule_retries(prod: Stack):
    retried = prod.definition["States"]["Ingest"]["Retry"]
    states = prod.definition_of("LoadStateMachine")["States"]
    tasks = [states["Plan"], load_items(prod)["States"]["Land"], states["Finish"]]
    assert [each["Retry"] for each in tasks] == [retried] * 3


def load_items(stack: Stack) -> dict[str, Any]:
    """What is done with each item of a load."""
    items: dict[str, Any] = stack.definition_of("LoadStateMachine")["States"]["Load"][
        "ItemProcessor"
    ]
    return items


def test_each_item_of_a_load_has_an_execution_of_its_own_and_stops_no_other(prod: Stack):
    """In one history of 25,000 events a thousand items with their retries have no room."""
    load = prod.definition_of("LoadStateMachine")["States"]["Load"]
    assert load["ItemsPath"] == "$.items"
    assert load["MaxConcurrencyPath"] == "$.workers"
    items = load_items(prod)
    assert items["ProcessorConfig"] == {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"}
    assert items["States"]["Land"]["Catch"] == [
        {"ErrorEquals": ["States.ALL"], "ResultPath": "$.failure", "Next": "Failed"}
    ]
    kept = items["States"]["Failed"]["Parameters"]
    assert kept.keys() == {f"{each.name}.$" for each in fields(Item)} | {"error.$"}
    assert kept["error.$"] == "$.failure.Error"  # not its Cause, which may have 32 KB


def test_a_load_calls_again_while_there_is_more(prod: Stack):
    states = prod.definition_of("LoadStateMachine")["States"]
    for choice, task in (("IsPlanned", "Plan"), ("HasLanded", "Land")):
        state = (states | load_items(prod)["States"])[choice]
        more = {"Variable": "$.more", "BooleanEquals": True, "Next": task}
        assert state["Choices"] == [more]
    assert states["Plan"]["Parameters"]["Payload"] == {"plan.$": "$"}
    assert load_items(prod)["States"]["Land"]["Parameters"]["Payload"] == {"land.$": "$"}


def test_transient_errors_are_those_that_the_function_can_raise(service: Path, tmp_path: Path):
    """An error of another service is none of them, one that ingestion's code mentions is."""
    for name in ("services", "shared"):
        shutil.copytree(service / name, tmp_path / name)
    handler = "services/ingestion/handler.lambda_handler"
    before = transient_errors(tmp_path, handler)
    assert before >= {"SourceUnavailableError", "LandingUnavailableError"}
    with (tmp_path / "shared" / "errors.py").open("a") as file:
        file.write(DECLARED)
    warehouse = tmp_path / "services" / "warehouse"
    warehouse.mkdir()
    (warehouse / "__init__.py").touch()
    (warehouse / "handler.py").write_text(RAISING)
    assert transient_errors(tmp_path, handler) == before
    of_warehouse = transient_errors(tmp_path, "services/warehouse/handler.load")
    assert "WarehouseBusyError" in of_warehouse
    assert "SourceUnavailableError" not in of_warehouse
    with (tmp_path / "services" / "ingestion" / "handler.py").open("a") as file:
        file.write(CALLING)
    assert transient_errors(tmp_path, handler) == before | {"WarehouseBusyError"}


def waits(retrier: dict[str, Any]) -> list[float]:
    """The seconds a retrier waits before each further call, at most."""
    exact = [
        retrier["IntervalSeconds"] * retrier["BackoffRate"] ** number
        for number in range(retrier["MaxAttempts"])
    ]
    return [min(seconds, retrier["MaxDelaySeconds"]) for seconds in exact]


def least_seconds(retrier: dict[str, Any]) -> float:
    """The seconds from the first call to the last one, at least: full jitter may draw 0 s."""
    return {"NONE": sum(waits(retrier)), "FULL": 0}[retrier.get("JitterStrategy", "NONE")]


def test_waits_with_jitter_promise_nothing():
    retrier = {"IntervalSeconds": 10, "BackoffRate": 2, "MaxDelaySeconds": 60, "MaxAttempts": 5}
    assert waits(retrier) == [10, 20, 40, 60, 60]
    assert least_seconds(retrier) == 190
    assert least_seconds(retrier | {"JitterStrategy": "FULL"}) == 0


def test_retries_outlast_a_fail_over_of_the_database(prod: Stack):
    (retrier,) = (
        each
        for each in prod.definition["States"]["Ingest"]["Retry"]
        if "SourceUnavailableError" in each["ErrorEquals"]
    )
    assert least_seconds(retrier) > FAIL_OVER_SECONDS
    assert waits(retrier) == sorted(waits(retrier))
    assert waits(retrier)[0] <= 10  # most are over sooner


def test_retries_of_lambdas_own_errors_spread(prod: Stack):
    """All executions of an account ask for the same concurrency."""
    (retrier,) = (
        each
        for each in prod.definition["States"]["Ingest"]["Retry"]
        if set(each["ErrorEquals"]) == SERVICE_ERRORS
    )
    assert retrier["JitterStrategy"] == "FULL"
    assert retrier["BackoffRate"] > 1
    assert sum(waits(retrier)) >= 60


def test_retries_end_before_the_execution_has_to(prod: Stack):
    """Also if the first call took all its time, and all others waited for a connection."""
    retriers = prod.definition["States"]["Ingest"]["Retry"]
    waiting = sum(sum(waits(retrier)) for retrier in retriers)
    calls = max(retrier["MaxAttempts"] for retrier in retriers)
    first = prod.properties("IngestLambdaFunction")["Timeout"]
    assert first + waiting + calls * CONNECT_SECONDS < prod.definition["TimeoutSeconds"]


def test_executions_do_not_overlap_and_let_the_last_call_end(prod: Stack):
    longest = prod.definition["TimeoutSeconds"]
    timeout = prod.properties("IngestLambdaFunction")["Timeout"]
    assert int(prod.environment["BACKLOG_SECONDS"]) + timeout < longest < 600


def test_function_is_called_again_for_more_and_only_by_a_young_execution(prod: Stack):
    what_is_left = prod.definition["States"]["WhatIsLeft"]
    choice, _ = what_is_left["Choices"]
    more, young = choice["And"]
    assert more == {"Variable": "$.more", "BooleanEquals": True}
    assert young["Variable"] == "$$.Execution.StartTime"
    assert young["TimestampGreaterThanPath"] == "$.again_if_started_after"
    assert choice["Next"] == prod.definition["StartAt"] == "Ingest"
    assert what_is_left["Default"] == "Done"


def test_the_reconciliation_is_begun_if_rows_were_deleted_and_nobody_waits_for_it(prod: Stack):
    _, deleted = prod.definition["States"]["WhatIsLeft"]["Choices"]
    assert deleted == {"Variable": "$.deleted[0]", "IsPresent": True, "Next": "Reconcile"}
    begun = prod.definition["States"]["Reconcile"]
    assert begun["Parameters"]["InvocationType"] == "Event"
    assert begun["Parameters"]["Payload"] == {"deletes.$": "$.deleted"}
    assert begun["Next"] == "Done"


def test_each_call_gets_the_input_of_the_execution(prod: Stack):
    assert prod.definition["States"]["Ingest"]["Parameters"]["Payload.$"] == "$$.Execution.Input"
    assert prod.definition["States"]["Ingest"]["OutputPath"] == "$.Payload"


def test_environment_is_what_the_settings_read(prod: Stack, switched: Stack):
    for package in (prod, switched):
        names = {name for name in package.environment if not name.startswith("POWERTOOLS_")}
        assert names == set(Settings.variables())
        assert all(isinstance(value, str) for value in package.environment.values())
        Settings.from_env(package.environment)


def test_params_reach_every_variable_and_property(switched: Stack):
    """`SWITCHED` gives each param another value than its default, and than all others."""
    for name in switched.functions:
        variables = switched.variables(name)
        for variable, param in VARIABLES.items():
            own = param == "databaseSecret" and name == "WarehouseLambdaFunction"
            if variable in variables and not own:  # the next service has a database of its own
                assert variables[variable] == SWITCHED[param], (name, variable)
    read = {variable for name in switched.functions for variable in switched.variables(name)}
    assert set(VARIABLES) <= read
    ingest = switched.properties("IngestLambdaFunction")
    assert str(ingest["MemorySize"]) == SWITCHED["memoryMegabytes"]
    assert str(ingest["EphemeralStorage"]["Size"]) == SWITCHED["storageMegabytes"]
    assert str(ingest["Timeout"]) == SWITCHED["timeoutSeconds"]


def test_every_function_runs_on_what_is_deployed(prod: Stack):
    for function in prod.functions.values():
        assert (function["Runtime"], function["Architectures"]) == ("python3.13", ["x86_64"])
        assert function["Layers"] == [{"Ref": "PythonRequirementsLambdaLayer"}]
        assert function["Description"]
    assert prod.of_type("AWS::Lambda::Version") == {}  # nothing calls an old one


def test_functions_that_reach_the_database_are_in_its_vpc_if_there_is_one(
    prod: Stack, switched: Stack
):
    for name, function in switched.functions.items():
        reaches = "DB_SECRET_ID" in switched.variables(name)
        assert "VpcConfig" not in prod.properties(name)
        assert function.get("VpcConfig") == (IN_VPC if reaches else None)
        role = role_of(function)
        assert network(prod.actions(role)) == set()
        assert network(switched.actions(role)) == (NETWORK_INTERFACES if reaches else set())
    assert "DB_SECRET_ID" in switched.environment


def network(actions: set[str]) -> set[str]:
    return {action for action in actions if action.startswith("ec2:")}


def test_the_deployment_bucket_is_closed_and_encrypted(package: Package):
    """The template that creates the stack has nothing else yet."""
    template = json.loads(package.templates[0].read_text())
    (bucket,) = (
        each["Properties"]
        for each in template["Resources"].values()
        if each["Type"] == "AWS::S3::Bucket"
    )
    assert list(bucket["PublicAccessBlockConfiguration"].values()) == [True] * 4
    (encryption,) = bucket["BucketEncryption"]["ServerSideEncryptionConfiguration"]
    assert encryption["ServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
