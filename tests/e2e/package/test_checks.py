"""What is wrong with a stage or its parameters is refused before anything is built or deployed."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from typing import TYPE_CHECKING, Any, NotRequired, TypedDict

import pytest
import yaml

from services.ingestion.handler import Settings
from shared.tables import TABLES
from tests.e2e.package.packaged import REPOSITORY, SWITCHED

if TYPE_CHECKING:
    from pathlib import Path

    from local.aws.stand_in import LocalAws
    from tests.e2e.package.packaged import Stack

pytestmark = pytest.mark.e2e

SERVICE = yaml.safe_load((REPOSITORY / "serverless.yml").read_text())
PARAMS = SERVICE["params"]
MACHINE = yaml.safe_load((REPOSITORY / "services/ingestion/state-machine.yml").read_text())
# For each of several deployments: what the plug-in prints before and after it, or why it refuses.
# As the framework does: `asyncInit` first, then variables get their values, then `initialize` and,
# if the command succeeds, `finalize`.
PLUGIN = """
const { readFileSync } = require('node:fs');
const Checks = require(process.argv[1]);
function answer({ command, stage, region, options, params, later, executionSeconds }) {
  const definition = { TimeoutSeconds: executionSeconds };
  const answer = { early: true, before: '', after: '', params };
  const serverless = {
    serviceDir: process.cwd(),
    processedInput: { commands: command.split(' '), options: { param: options } },
    configurationInput: { params, stepFunctions: { stateMachines: { ingestion: { definition } } } },
    classes: { Error },
    getProvider: () => ({ getStage: () => stage, getRegion: () => region }),
  };
  let when = 'before';
  const print = (text = '') => (answer[when] += `${text}\\n`);
  try {
    const checks = new Checks(serverless, {}, { log: { notice: print, warning: print } });
    checks.asyncInit();
    answer.early = false;
    Object.assign(params[stage], later);
    checks.hooks.initialize();
    when = 'after';
    checks.hooks.finalize();
  } catch (error) {
    answer.error = error.message;
  }
  return answer;
}
console.log(JSON.stringify(JSON.parse(readFileSync(0)).map(answer)));
"""
RULES = """
const { LONGEST_STAGE, RULES } = require(process.argv[1]);
const days = Array.from({ length: 4000 }, (_, day) => day)
  .filter((day) => !RULES.logRetentionDays(String(day)));
console.log(JSON.stringify({ longest: LONGEST_STAGE, names: Object.keys(RULES), days }));
"""
ARN = "arn:aws:secretsmanager:eu-west-2:123456789012:secret:prod/totesys-a1B2c3"
VPC = {name: SWITCHED[name] for name in ("subnetIds", "securityGroupIds")}


class Answer(TypedDict):
    """What the plug-in did."""

    early: bool  # it refused before variables had their values
    before: str
    after: str
    params: dict[str, Any]
    error: NotRequired[str]


def asked(given=None, *, command="deploy", stage="prod", region="eu-west-2", params=None, **more):
    """A deployment; `given` is what --param says, `params` are added to serverless.yml."""
    deployment = {
        "command": command,
        "stage": stage,
        "region": region,
        "options": [f"{name}={value}" for name, value in (given or {}).items()],
        "params": named(stage) | {stage: {**PARAMS.get(stage, {}), **(params or {})}},
        "later": {},
        "executionSeconds": MACHINE["TimeoutSeconds"],
    }
    return deployment | more


def answers(deployments: list[dict[str, Any]]) -> list[Answer]:
    """Run the plug-in for each deployment, in one process."""
    done = subprocess.run(
        ["node", "-e", PLUGIN, REPOSITORY / "resources" / "checks.js"],
        input=json.dumps(deployments),
        cwd=REPOSITORY,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    found: list[Answer] = json.loads(done.stdout)
    return found


def ask(given=None, **more) -> Answer:
    """Run the plug-in for one deployment."""
    [answer] = answers([asked(given, **more)])
    return answer


def named(stage: str) -> dict[str, Any]:
    """The defaults as they are at first: with the stage's name, but without the region's."""
    text = json.dumps({"default": PARAMS["default"]}).replace("${sls:stage}", stage)
    params: dict[str, Any] = json.loads(text)
    return params


def faults(answer: Answer) -> list[str]:
    """The lines of the error, one for each fault."""
    lines = answer.get("error", "").splitlines()
    return [line.removeprefix("- ") for line in lines if line.startswith("- ")]


# Parameters with a value that is refused, and what the error says about it.
WRONG: list[tuple[dict[str, str], str]] = [
    ({"bucketName": "Bucket"}, "bucketName is 'Bucket'. Give 3 to 63 lower-case letters"),
    ({"bucketName": "b" * 64}, "Give 3 to 63"),
    ({"bucketName": "ab"}, "Give 3 to 63"),
    ({"bucketName": "rows-"}, "a letter or digit at both ends"),
    ({"bucketName": "a..b"}, "Give 3 to 63"),
    ({"bucketName": "192.168.5.4"}, "Give 3 to 63"),
    ({"bucketName": "xn--rows"}, "that S3 reserves"),
    ({"bucketName": "rows--x-s3"}, "that S3 reserves"),
    ({"createBucket": "no"}, "createBucket is 'no'. Give true or false."),
    ({"createLogGroups": "off"}, "createLogGroups is 'off'. Give true or false."),
    ({"createsOnly": "0"}, "createsOnly is '0'. Give true or false."),
    ({"scheduleEnabled": "TRUE"}, "scheduleEnabled is 'TRUE'. Give true or false."),
    ({"databaseSecret": ARN}, "Give the secret's name instead of its ARN: prod/totesys."),
    ({"databaseSecret": "a:b"}, "without the hyphen and the six characters"),
    ({"databaseSecret": "prod/*"}, "the secret's name: letters"),
    ({"databaseCaFile": "shared/rds-ca/eu-west-9.pem"}, "eu-west-1, eu-west-2, eu-west-3"),
    ({"databaseCaFile": "/etc/ssl/cert.pem"}, "from the checkout's folder"),
    ({"databaseCaFile": "./shared/rds-ca/eu-west-2.pem"}, "from the checkout's folder"),
    ({"databaseCaFile": "shared/rds-ca"}, "a file of certificates"),
    ({"databaseCaFile": "README.md"}, "a file of certificates"),
    ({"alarmEmail": "data"}, "Give one email address, such as data@example.com."),
    ({"alarmEmail": "a@example.com,b@example.com"}, "Give one email address"),
    ({"alarmTopicKey": "alias/alarms"}, "Give the ARN of a key of KMS."),
    ({"memoryMegabytes": "127"}, "Give a whole number from 128 to 10240."),
    ({"memoryMegabytes": "10241"}, "Give a whole number from 128 to 10240."),
    ({"memoryMegabytes": "1GB"}, "Give a whole number from 128 to 10240."),
    ({"storageMegabytes": "511"}, "Give a whole number from 512 to 10240."),
    ({"storageMegabytes": "10241"}, "Give a whole number from 512 to 10240."),
    ({"timeoutSeconds": "0"}, "Give a whole number from 1 to 900."),
    ({"timeoutSeconds": "4m"}, "Give a whole number from 1 to 900."),
    ({"logRetentionDays": "42"}, "Give 1, 3, 5, 7,"),
    ({"batchRows": "0"}, "batchRows is '0'. Give a whole number, 1 or more."),
    ({"writerWaitSeconds": "-1"}, "Give a whole number, 0 or more."),
    ({"statementTimeoutSeconds": "0"}, "Give a whole number, 1 or more."),
    ({"backlogSeconds": "1.5"}, "Give a whole number, 0 or more."),
    ({"proofDays": "0"}, "proofDays is '0'. Give a whole number, 1 or more."),
    ({"tombstones": "yes"}, "tombstones is 'yes'. Give true or false."),
    ({"withoutChanges": "design,adress"}, "Give all, or some of address,"),
    (VPC | {"subnetIds": "subnet-1"}, "ids like subnet-0123456789abcdef0"),
    (VPC | {"subnetIds": "subnet-11111111, subnet-22222222"}, "no spaces"),
    (VPC | {"subnetIds": ",".join(["subnet-11111111"] * 17)}, "at most 16"),
    (VPC | {"securityGroupIds": "subnet-11111111"}, "ids like sg-0123456789abcdef0"),
    ({"subnetIds": VPC["subnetIds"]}, "subnetIds has a value, but securityGroupIds has none."),
    ({"securityGroupIds": "sg-11111111"}, "securityGroupIds has a value, but subnetIds has none."),
    ({"backlogSeconds": "330"}, "330 and 240. Give values whose sum is less than the 570 seconds"),
    ({"timeoutSeconds": "270"}, "300 and 270. Give values whose sum is less than the 570 seconds"),
    (
        {"alarmMail": "data@example.com"},
        "alarmMail is unknown. The nearest parameter is alarmEmail.",
    ),
    ({"subnetids": "subnet-11111111"}, "The nearest parameter is subnetIds."),
    ({"alarmEmail": ""}, '--param="alarmEmail=" has no name or no value.'),
]
RIGHT: list[dict[str, str]] = [
    {},
    SWITCHED,
    {"bucketName": "b.1"},
    {"bucketName": "b" * 63},
    {"databaseSecret": "rds!db-033d7456-2c96-450d-9d48-f5de3025e51c"},
    {"databaseCaFile": "shared/rds-ca/us-east-1.pem"},
    {"withoutChanges": "all"},
    {"withoutChanges": "payment_type, design"},
    {"memoryMegabytes": "128"},
    {"memoryMegabytes": "10240"},
    {"storageMegabytes": "512"},
    {"storageMegabytes": "10240"},
    {"timeoutSeconds": "1", "backlogSeconds": "568"},
    {"backlogSeconds": "329"},
    {"logRetentionDays": "3653"},
    VPC | {"subnetIds": "subnet-0123456789abcdef0"},
]
STAGES_WRONG = ["Prod", "-prod", "prod-", "a" * 25]
STAGES_RIGHT = ["a", "7", "team-7", "a" * 24, *(stage for stage in PARAMS if stage != "default")]


def test_what_is_wrong_is_named_alone_and_the_error_says_what_to_give():
    for (given, said), answer in zip(
        WRONG, answers([asked(given) for given, _ in WRONG]), strict=True
    ):
        assert len(faults(answer)) == 1, (given, answer)
        assert said in faults(answer)[0]
        assert answer["early"]
        assert answer["error"].endswith("docs/configuration.md describes them.")


def test_everything_that_is_wrong_is_named_in_one_error():
    given = {"subnetIds": "subnet-1", "securityGroupIds": "sg-1"}
    for each, said in WRONG:
        if len(each) == 1 and "sum" not in said:
            given = each | given
    assert set(given) > set(PARAMS["default"])
    found = faults(ask(given, stage="Prod"))
    assert "The stage is 'Prod'" in found[0]
    for name in given:
        assert any(f"{name} is " in fault or f'"{name}=' in fault for fault in found), name


def test_what_is_right_is_deployed():
    for given, answer in zip(RIGHT, answers([asked(given) for given in RIGHT]), strict=True):
        assert "error" not in answer, given


def test_a_stage_after_which_aws_lets_nothing_be_named_is_refused():
    for stage, answer in zip(
        STAGES_WRONG, answers([asked(stage=stage) for stage in STAGES_WRONG]), strict=True
    ):
        [fault] = faults(answer)
        assert f"The stage is '{stage}'. Give it a name of 1 to 24 lower-case letters" in fault


def test_stages_that_are_fine():
    for answer in answers([asked(stage=stage) for stage in STAGES_RIGHT]):
        assert "error" not in answer


def test_a_region_without_certificates_is_told_which_ones_have_them():
    answer = ask(region="eu-west-9")
    [fault] = faults(answer)
    assert answer["early"]
    assert "databaseCaFile is 'shared/rds-ca/eu-west-9.pem'" in fault
    for file in (REPOSITORY / "shared" / "rds-ca").glob("*.pem"):
        assert file.stem in fault
    given = {"databaseCaFile": "shared/rds-ca/eu-west-1.pem"}
    assert faults(ask(given, region="eu-west-9")) == []


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"batchRows": 0}, "batchRows is '0'."),
        ({"alarmMail": "data@example.com"}, "The nearest parameter is alarmEmail."),
        (
            {"subnetIds": ["subnet-11111111"]},
            "subnetIds is a list or a mapping. Give text, with commas.",
        ),
    ],
    ids=str,
)
def test_serverless_yml_is_checked_as_the_command_line_is(params, said):
    found = faults(ask(params=params))
    assert any(said in fault for fault in found)


def test_the_command_line_is_what_counts_and_then_the_stage():
    assert faults(ask({"batchRows": "7"}, params={"batchRows": "none"})) == []
    assert faults(ask(params={"batchRows": None})) == []


def test_an_execution_is_as_long_as_the_state_machine_says():
    [fault] = faults(ask(executionSeconds=540))
    assert "less than the 540 seconds" in fault


def test_what_only_aws_knows_is_checked_when_it_has_told():
    asked_of_aws = {"alarmEmail": "${ssm:/alarms}", "subnetIds": "${ssm:/subnets}"}
    known = {"alarmEmail": "data", "subnetIds": VPC["subnetIds"]}
    answer = ask(params=VPC | asked_of_aws, later=known)
    [fault] = faults(answer)
    assert "alarmEmail is 'data'" in fault
    assert not answer["early"]


def test_what_is_built_or_deployed_is_checked():
    for command in ("package", "deploy", "deploy function"):
        assert faults(ask({"batchRows": "0"}, command=command))


def test_what_is_deployed_already_can_be_looked_at_and_removed():
    for command in ("remove", "info", "logs", "deploy list", "invoke local"):
        assert "error" not in ask({"batchRows": "0"}, command=command)


def test_true_and_false_of_yaml_are_texts_for_cloudformation():
    params = ask(params={"createBucket": False, "scheduleEnabled": True})["params"]["prod"]
    assert (params["createBucket"], params["scheduleEnabled"]) == ("false", "true")
    assert params["logRetentionDays"] == 365


# Warnings.


def test_a_stage_of_which_nobody_is_notified_is_warned_of_at_the_beginning_and_at_the_end():
    answer = ask()
    assert answer["before"] == answer["after"]
    assert "NOBODY IS NOTIFIED if stage prod fails" in answer["after"]
    assert "params: {prod: {alarmEmail: ...}}" in answer["after"]


def test_no_warning_of_a_stage_that_notifies_somebody_or_does_not_run():
    for params in ({"alarmEmail": "data@example.com"}, {"scheduleEnabled": False}):
        answer = ask(params=params)
        assert (answer["before"], answer["after"]) == ("", "")


def test_no_warning_where_no_stage_is_deployed():
    for command in ("package", "remove", "deploy function"):
        answer = ask(command=command)
        assert (answer["before"], answer["after"]) == ("", "")


def test_what_the_next_deployment_forgets_is_named():
    after = ask(VPC, params={"alarmEmail": "data@example.com"})["after"]
    assert "FORGETS what --param says: subnetIds, securityGroupIds." in after
    assert "params: {prod: {subnetIds: ...}}" in after
    assert "NOBODY" not in after


# The rules.


@pytest.fixture(scope="module")
def rules() -> dict[str, Any]:
    path = REPOSITORY / "resources" / "rules.js"
    done = subprocess.run(["node", "-e", RULES, path], check=True, capture_output=True, text=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_each_parameter_has_a_rule(rules):
    assert sorted(rules["names"]) == sorted(PARAMS["default"])


def test_numbers_begin_where_those_of_the_function_do():
    least = {
        name.upper(): field.metadata["least"]
        for name, field in Settings.__dataclass_fields__.items()
        if "least" in field.metadata
    }
    environment = yaml.safe_load((REPOSITORY / "services" / "environment.yml").read_text())
    params = {name: text[8:-1] for name, text in environment["ingest"].items() if name in least}
    assert len(params) == len(least) == 4
    for name, param in params.items():
        assert faults(ask({param: str(least[name])})) == []
        assert faults(ask({param: str(least[name] - 1)})) != []


def test_the_days_of_a_log_are_those_of_the_framework(rules):
    code = (REPOSITORY / "node_modules/serverless/lib/plugins/aws/provider.js").read_text()
    [days] = re.findall(r"awsLogRetentionInDays: {.*?enum: \[(.*?)\]", code, re.DOTALL)
    assert rules["days"] == [int(day) for day in re.findall(r"\d+", days)]


def test_the_tables_are_those_of_the_service():
    assert faults(ask({"withoutChanges": ",".join(TABLES)})) == []


# The longest names that AWS takes, and how the names of a type are spelled. The emails' subject has
# 100 characters: ALARM: "<name>" in Asia Pacific (Singapore), which is one of the longest regions.
NAMES = {
    "AWS::S3::Bucket": ("BucketName", 63),
    "AWS::Lambda::Function": ("FunctionName", 64),
    "AWS::Lambda::LayerVersion": ("LayerName", 140),
    "AWS::StepFunctions::StateMachine": ("StateMachineName", 80),
    "AWS::SNS::Topic": ("TopicName", 256),
    "AWS::Logs::LogGroup": ("LogGroupName", 512),
    "AWS::CloudWatch::Alarm": ("AlarmName", 255),
    "AWS::CloudWatch::CompositeAlarm": ("AlarmName", 255),
    "AWS::CloudWatch::Dashboard": ("DashboardName", 255),
}
SUBJECT = 100 - len('ALARM: "" in Asia Pacific (Singapore)')


def test_everything_can_be_named_after_the_longest_stage(prod: Stack, rules: dict[str, Any]):
    more = rules["longest"] - len("prod")
    seen = 0
    for kind, (spelled, limit) in NAMES.items():
        for resource in prod.of_type(kind).values():
            name = resource.get(spelled, "")
            in_subject = "alarm" in kind.lower()
            assert len(name) + more <= min(limit, SUBJECT if in_subject else limit), name
            seen += "prod" in name
    assert seen > 15


# The framework.


@pytest.fixture
def checkout(service: Path, tmp_path: Path) -> Path:
    """A folder in which nothing was ever built."""
    shutil.copy(service / "serverless.yml", tmp_path)  # which may not be a link
    for name in ("node_modules", "layers", "resources", "services", "shared"):
        (tmp_path / name).symlink_to((service / name).resolve())
    return tmp_path


def test_sls_package_is_refused_before_anything_is_built(checkout: Path, aws_to_ask: LocalAws):
    before = set(checkout.iterdir())
    options = ["alarmMail=data@example.com", "scheduleEnabled=maybe", "memoryMegabytes=1"]
    done = subprocess.run(
        ["node_modules/.bin/sls", "package", *(f"--param={each}" for each in options)],
        cwd=checkout,
        env=aws_to_ask.subprocess_environ(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    printed = done.stdout + done.stderr
    for name in ("alarmMail", "scheduleEnabled", "memoryMegabytes"):
        assert f"\n- {name} is " in printed
    assert "    at " not in printed  # no stack trace
    assert set(checkout.iterdir()) == before
