"""What `make doctor` says of a deployed stage: each fault is injected, named, and undone again."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime, parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import boto3
import pytest
import requests
from botocore.client import BaseClient

from local import REPOSITORY
from tests.helpers.cases import one_in
from tests.helpers.faults import deployment_faults as faults
from tests.helpers.faults import stage_faults
from tests.helpers.faults.s3 import Answer, altered, faulty_s3, refused, reworded
from tests.helpers.oracle.pages import first_cells, page, section
from tests.helpers.runs.commands import reach
from tests.helpers.runs.doctoring import assert_says, checked
from tests.helpers.runs.drills import configured
from tools import doctor
from tools.checks import runs
from tools.checks.check import Outcome
from tools.checks.permissions import ACTIONS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from local.stage import LocalStage

pytestmark = pytest.mark.e2e

FAILED, WARNING, SKIPPED = Outcome.FAILED, Outcome.WARNING, Outcome.SKIPPED
IDLE = "idle_in_transaction_session_timeout"
TICK, NIGHT = "IngestionStepFunctionsEventsRuleSchedule1", "ReconcileEventsRuleSchedule1"


@pytest.fixture(scope="module")
def healthy(stage: LocalStage) -> Iterator[LocalStage]:
    """The stage, of which everything is as it should be."""
    stage.database.run(f"ALTER DATABASE totesys SET {IDLE} = '10min'")
    assert stage.run().status == "SUCCEEDED"
    assert not stage.reconcile().failed
    with faults.subscribed(stage):
        yield stage
    stage.database.run(f"ALTER DATABASE totesys RESET {IDLE}")


@pytest.fixture
def here(healthy: LocalStage, monkeypatch: pytest.MonkeyPatch) -> LocalStage:
    """The stage, which this process reaches."""
    reach(healthy, monkeypatch)
    return healthy


def test_all_is_fine(here: LocalStage):
    made = checked("local")
    assert made.not_fine == {}
    assert set(made.skipped) == {"certificate"}
    listed = first_cells(section(page("docs/operating.md"), "Check the preconditions"))
    assert set(made) == set(listed) - {"JSON=1"}


# --- the command ---


def command(stage: LocalStage, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tools.doctor", *options],
        cwd=REPOSITORY,
        env=stage.aws.subprocess_environ(),
        capture_output=True,
        text=True,
        check=False,
    )


def test_people_read_a_table_and_below_it_what_to_do(here: LocalStage):
    done = command(here, "--stage", "local")
    assert (done.returncode, done.stderr) == (0, "")
    title, _, headings, first, *_ = done.stdout.splitlines()
    assert title.startswith("Stage local in eu-west-2, 20")
    assert headings.split() == ["check", "outcome", "found"]
    assert first.startswith("credentials ")
    assert re.search(r"^\d+ ok, 0 warning, 0 failed, 1 skipped\n\Z", done.stdout, re.MULTILINE)
    with faults.versioning_suspended(here):
        done = command(here, "--stage", "local")
    assert done.returncode == 1
    assert "\nbucket versioning (failed): Suspended: " in done.stdout
    assert "\n  aws s3api put-bucket-versioning " in done.stdout


def test_machines_read_every_check_by_its_name(here: LocalStage):
    with faults.versioning_suspended(here):
        done = command(here, "--stage", "local", "--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["failed"]) == (1, True)
    assert said["checks"]["bucket versioning"]["outcome"] == "failed"
    assert said["checks"]["bucket versioning"]["remedy"].startswith("aws s3api")
    assert said["checks"]["credentials"] | {"detail": ""} == {
        "outcome": "ok",
        "detail": "",
        "remedy": "",
    }


def test_before_the_first_deployment_the_rest_is_skipped(here: LocalStage):
    with secret_of(here, "new"):
        done = command(here, "--stage", "new", "--json")
    assert done.returncode == 0
    checks = json.loads(done.stdout)["checks"]
    reasons = {k: each["detail"] for k, each in checks.items() if each["outcome"] == "skipped"}
    del reasons["certificate"]
    assert set(reasons.values()) == {"not deployed yet"}
    assert {"stack", "functions", "alarms", "subscription", "bucket versioning"} < set(reasons)
    assert checks["grants"]["outcome"] == checks["bucket"]["outcome"] == "ok"
    assert checks["stack"]["remedy"] == "Deployed there: local."


@contextmanager
def secret_of(stage: LocalStage, name: str) -> Iterator[None]:
    client = stage.aws.client("secretsmanager")
    secret = json.dumps(stage.server.secret("totesys"))
    client.create_secret(Name=f"{name}/totesys", SecretString=secret)
    try:
        yield
    finally:
        client.delete_secret(SecretId=f"{name}/totesys", ForceDeleteWithoutRecovery=True)


# --- what somebody changed ---

type Fault = Callable[[LocalStage], AbstractContextManager[object]]

# The fault; the check that finds it, how it ends, what it says and what to do.
FAULTS: dict[str, tuple[Fault, str, Outcome, str, str]] = {
    "secret gone": (
        stage_faults.secret_gone,
        "secret", FAILED, "local/totesys will be deleted", "restore-secret --secret-id local/t",
    ),
    "secret malformed": (
        stage_faults.secret_malformed,
        "secret form", FAILED, "`host` must be a string", "Store a corrected value",
    ),
    "wrong password": (
        stage_faults.wrong_password,
        "database", FAILED, "password authentication failed", "right username and password",
    ),
    "database down": (
        stage_faults.database_down, "database", FAILED, "does not answer", "Check that it runs",
    ),
    "grant missing": (
        stage_faults.permission_missing,
        "grants", FAILED, "no SELECT on payment", 'GRANT SELECT ON "payment" TO "reader";',
    ),
    "table dropped": (
        stage_faults.table_dropped, "grants", FAILED, "there is no table payment", "Restore",
    ),
    "versioning suspended": (
        faults.versioning_suspended,
        "bucket versioning", FAILED, "Suspended: ", "put-bucket-versioning --bucket local-inge",
    ),
    "public access": (
        faults.public_access_allowed,
        "bucket public access", FAILED, "BlockPublicAcls is off; ", "put-public-access-block",
    ),
    "public policies": (
        lambda stage: faults.public_access_allowed(stage, "BlockPublicPolicy"),
        "bucket public access", FAILED, "^BlockPublicPolicy is off$", "put-public-access-block",
    ),
    "no bucket policy": (
        faults.policy_changed, "bucket policy", FAILED, "without TLS are allowed", "put-bucket-pol",
    ),
    "a bucket policy that denies only writing": (
        lambda stage: faults.policy_changed(stage, '"s3:*"', '"s3:PutObject"'),
        "bucket policy", FAILED, "without TLS are allowed", "put-bucket-policy",
    ),
    "a bucket policy for objects only": (
        lambda stage: faults.policy_changed(stage, '"arn:aws:s3:::local-ingestion-bucket", ', ""),
        "bucket policy", FAILED, "without TLS are allowed", "put-bucket-policy",
    ),
    "encrypted by KMS": (
        faults.encrypted_by_kms, "bucket encryption", WARNING, "aws:kms", "kms:GenerateDataKey",
    ),
    "less memory": (
        lambda stage: faults.reconfigured(stage, MemorySize=128),
        "function settings", FAILED, "reconcile has another MemorySize$", "sls deploy --force",
    ),
    "another timeout": (
        lambda stage: faults.reconfigured(stage, Timeout=3),
        "function settings", FAILED, "reconcile has another Timeout$", "sls deploy --force",
    ),
    "another runtime": (
        lambda stage: faults.reconfigured(stage, Runtime="python3.12"),
        "function settings", FAILED, "reconcile has another Runtime$", "sls deploy --force",
    ),
    "another variable": (
        lambda stage: configured(stage, {"BATCH_ROWS": "10"}),
        "function settings", FAILED, "ingest has another BATCH_ROWS$", "sls deploy --force",
    ),
    "no layer": (
        lambda stage: faults.reconfigured(stage, Layers=[]),
        "layer", FAILED, "reconcile lacks .*:1", "--function-name .*-reconcile --layers arn:",
    ),
    "another layer": (
        faults.older_layer, "layer", FAILED, "reconcile lacks ", "--layers arn:aws:lambda:",
    ),
    "other code": (
        faults.other_code, "code", FAILED, "reconcile runs other code", "npx sls deploy --force",
    ),
    "a log that is kept for ever": (
        lambda stage: faults.log_kept(stage, None),
        "log groups", FAILED, "reconcile is kept for ever, not for 1 days", "put-retention-policy",
    ),
    "a log that is kept for longer": (
        lambda stage: faults.log_kept(stage, 30),
        "log groups", FAILED, "kept for 30 days, not for 1 days", "--retention-in-days 1",
    ),
    "no log": (
        faults.log_deleted, "log groups", FAILED, "there is no /aws/vended", "create-log-group",
    ),
    "the schedule is disabled": (
        lambda stage: faults.schedule_disabled(stage, TICK),
        "schedules", FAILED, f"{TICK}.* is disabled", "aws events enable-rule --name totesys",
    ),
    "the night's schedule is disabled": (
        lambda stage: faults.schedule_disabled(stage, NIGHT),
        "schedules", FAILED, f"{NIGHT}.* is disabled", "aws events enable-rule --name totesys",
    ),
    "a schedule that starts nothing": (
        lambda stage: faults.schedule_without_target(stage, TICK),
        "schedules", FAILED, "starts nothing", "npx sls remove --stage local",
    ),
    "no schedule": (
        lambda stage: faults.schedule_deleted(stage, NIGHT),
        "schedules", FAILED, f"there is no rule .*{NIGHT}", "createBucket: false",
    ),
    "a state machine with another role": (
        lambda stage: faults.another_role(stage, stage.load_arn),
        "state machines", FAILED, "local-load has the role .*, not totesys-ingestion-local-LoadR",
        "npx sls deploy --force",
    ),
    "a run that failed": (
        faults.run_failed, "last execution", FAILED, "FAILED 0 minutes ago: EventError", "nonsense",
    ),
    "rows are missing": (
        faults.rows_missing,
        "last reconciliation", FAILED, "8 rows missing in department", "reconcile/20.*json lists",
    ),
    "no alarm": (
        faults.alarm_deleted, "alarms", FAILED, "there is no alarm totesys", "take it out",
    ),
    "an alarm fired": (
        lambda stage: faults.in_state(stage, "ALARM"),
        "alarm states", FAILED, "totesys-ingestion-local.* is in ALARM", "[.]$",
    ),
    "actions are disabled": (
        faults.actions_disabled, "alarm actions", FAILED, "are disabled", "enable-alarm-actions",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", one_in(6, FAULTS))
def test_a_fault_is_named_with_what_to_do_and_nothing_else_is(here: LocalStage, name: str):
    inject, check, outcome, found, remedy = FAULTS[name]
    with inject(here):
        made = checked("local")
    assert made.not_fine == {check: outcome}
    assert_says(made[check], found, remedy)


def test_each_fault_was_undone(here: LocalStage):
    assert checked("local").not_fine == {}


def test_the_remedy_of_an_alarm_is_its_description(here: LocalStage):
    alarm = faults.some_alarm(here)
    with faults.in_state(here, "ALARM"):
        made = checked("local")
    assert made["alarm states"].remedy == alarm["AlarmDescription"]


def test_a_run_that_was_too_long_ago(here: LocalStage, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(runs, "LATE", timedelta(0))
    made = checked("local")
    assert made.not_fine == {"last execution": FAILED}
    assert_says(made["last execution"], "SUCCEEDED . minutes ago, and none since", "`schedules`")


def test_a_new_alarm_without_data_is_fine(here: LocalStage):
    with faults.in_state(here, "INSUFFICIENT_DATA"):
        assert checked("local").not_fine == {}


def test_nobody_is_notified(here: LocalStage):
    client = here.aws.client("sns")
    [topic] = client.list_topics()["Topics"]
    [found] = client.list_subscriptions_by_topic(**topic)["Subscriptions"]
    client.unsubscribe(SubscriptionArn=found["SubscriptionArn"])
    made = checked("local")
    client.subscribe(**topic, Protocol="email", Endpoint=faults.EMAIL)
    assert made.not_fine == {"subscription": FAILED}
    assert_says(made["subscription"], "nobody is notified", "Set alarmEmail .* confirm by the link")


def test_a_database_in_a_vpc_is_not_reached_from_here(here: LocalStage):
    vpc = {"SubnetIds": ["subnet-1"], "SecurityGroupIds": ["sg-1"]}
    here.set_secret(here.server.secret("totesys") | {"host": "127.0.0.1", "port": 9})
    client = here.aws.client("lambda")
    client.update_function_configuration(FunctionName=here.function_name, VpcConfig=vpc)
    made = checked("local")
    client.update_function_configuration(
        FunctionName=here.function_name, VpcConfig={"SubnetIds": [], "SecurityGroupIds": []}
    )
    here.set_secret(here.server.secret("totesys"))
    assert made.not_fine == {"function settings": FAILED}
    assert "another SubnetIds; " in made["function settings"].detail
    assert made["database"].outcome is SKIPPED
    assert_says(made["database"], "is in a VPC", "make ingest STAGE=local")
    assert checked("local").not_fine == {}


# --- buckets of others ---


def test_a_bucket_in_another_region(here: LocalStage):
    client = boto3.client("s3", region_name="us-west-2")
    client.create_bucket(
        Bucket="far-away", CreateBucketConfiguration={"LocationConstraint": "us-west-2"}
    )
    with configured(here, {"BUCKET_NAME": "far-away"}):
        made = checked("local")
    client.delete_bucket(Bucket="far-away")
    assert_says(made["bucket"], "far-away is in us-west-2, the stage in eu-west-2", "Choose a")
    assert made["bucket"].outcome is WARNING


def test_a_bucket_that_is_gone(here: LocalStage):
    with configured(here, {"BUCKET_NAME": "nothing-there"}):
        made = checked("local")
    assert made["bucket"].outcome is FAILED
    assert_says(made["bucket"], "there is no bucket nothing-there", "Create it again")
    assert made["bucket versioning"].detail == "see `bucket`"


def test_a_bucket_that_exists_before_the_first_deployment(here: LocalStage):
    client = here.aws.client("s3")
    region = {"LocationConstraint": "eu-west-2"}
    client.create_bucket(Bucket="new-ingestion-bucket", CreateBucketConfiguration=region)
    with secret_of(here, "new"):
        made = checked("new")
    client.delete_bucket(Bucket="new-ingestion-bucket")
    assert made["bucket"].outcome is made["bucket versioning"].outcome is FAILED
    assert_says(made["bucket"], "exists, and the deployment would create it", "createBucket to fa")


# --- answers that the stand-in does not give; a proxy changes those that it gives ---


@pytest.fixture
def answering(here: LocalStage, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Any]]:
    """Let a service answer differently where the path and the body of a request have a text."""
    with faulty_s3(here.aws.endpoint) as proxy:
        chosen: list[tuple[str, Any]] = []

        def choose(request: Any) -> Any:
            text = f"{request.method} {request.path} {request.headers} {request.body!r}"
            return next((fault for said, fault in chosen if said in text), None)

        def answer(service: str, said: str, fault: Any) -> None:
            chosen.append((said, fault))
            monkeypatch.setenv(f"AWS_ENDPOINT_URL_{service}", proxy.url)

        proxy.choose = choose
        yield answer


@pytest.mark.parametrize(("status", "said"), [("PendingConfirmation", ""), ("Deleted", "")])
def test_a_subscription_that_is_not_confirmed(here: LocalStage, answering, status, said):
    client = here.aws.client("sns")
    [topic] = client.list_topics()["Topics"]
    [found] = client.list_subscriptions_by_topic(**topic)["Subscriptions"]
    arn = found["SubscriptionArn"].encode()
    answering("SNS", "ListSubscriptionsByTopic", reworded(arn, status.encode()))
    made = checked("local")
    assert made.not_fine == {"subscription": FAILED}
    assert_says(
        made["subscription"],
        rf"{faults.EMAIL} has not confirmed \({status}\)",
        "Confirm by the link .* aws sns subscribe --topic-arn arn:",
    )


def test_an_alarm_that_notifies_another_topic(here: LocalStage, answering):
    answering("CLOUDWATCH", "DescribeAlarms", reworded(b"local-alarms", b"other-alarms"))
    made = checked("local")
    assert made.not_fine == {"alarm actions": FAILED}
    names = made["alarms"].detail.split()[0]
    said = made["alarm actions"]
    assert said.detail.count("nobody hears of totesys-ingestion-local") == int(names)
    assert_says(said, "", "AlarmActions to arn:aws:sns:.*local-alarms in resources/alarms.yml")


STATUSES = {
    "ROLLBACK_COMPLETE": (FAILED, "npx sls remove --stage local, and deploy again"),
    "ROLLBACK_FAILED": (FAILED, "npx sls remove --stage local, and deploy again"),
    "CREATE_FAILED": (FAILED, "npx sls remove --stage local, and deploy again"),
    "REVIEW_IN_PROGRESS": (FAILED, "never deployed: npx sls remove --stage local"),
    "DELETE_FAILED": (FAILED, "could not be removed: .* npx sls remove --stage local"),
    "UPDATE_FAILED": (FAILED, "describe-stack-events .* deploy again"),
    "UPDATE_ROLLBACK_FAILED": (FAILED, "continue-update-rollback --stack-name totesys-ingestion-l"),
    "UPDATE_ROLLBACK_COMPLETE": (WARNING, "before the last deployment is at work"),
    "UPDATE_IN_PROGRESS": (WARNING, "Wait until it has ended"),
    "DELETE_IN_PROGRESS": (WARNING, "Wait until it has ended"),
}


@pytest.mark.parametrize("status", one_in(4, STATUSES))
def test_a_stack_that_is_not_complete(here: LocalStage, answering, status):
    outcome, remedy = STATUSES[status]
    is_at_work = status.startswith("UPDATE_")
    answering("CLOUDFORMATION", "DescribeStacks", reworded(b"UPDATE_COMPLETE", status.encode()))
    made = checked("local")
    assert made.not_fine == {"stack": outcome}
    assert_says(made["stack"], status, remedy)
    assert (made["functions"].detail == "see `stack`") is not is_at_work


@pytest.mark.parametrize(
    ("said", "instead", "found"),
    [
        ('"State": "Active"', '"State": "Failed", "StateReason": "no subnet"', "is Failed: no sub"),
        ('"State": "Active"', '"State": "Inactive", "StateReason": "idle"', "is Inactive: idle"),
        ('"State": "Active"', '"State": "Pending"', "is being updated"),
        (
            '"LastUpdateStatus": "Successful"',
            '"LastUpdateStatus": "Failed", "LastUpdateStatusReason": "no key"',
            "its update is Failed: no key",
        ),
    ],
)
def test_a_function_that_can_not_be_called(here: LocalStage, answering, said, instead, found):
    fault = reworded(said.encode(), instead.encode())
    answering("LAMBDA", f"{faults.RECONCILE}/configuration", fault)
    made = checked("local")
    assert made.not_fine == {"functions": FAILED}
    assert_says(made["functions"], f"{faults.RECONCILE}:? {found}", "sls deploy|Wait")


def missing(code: str) -> Any:
    """Return the fault that a JSON service says that something does not exist."""
    headers = [("Content-Type", "application/json"), ("x-amzn-errortype", code)]
    body = json.dumps({"__type": code, "message": "Said the proxy."}).encode()
    return altered(lambda _: Answer(400 if "Machine" in code else 404, headers, body))


def test_a_function_that_is_gone(here: LocalStage, answering):
    fault = missing("ResourceNotFoundException")
    answering("LAMBDA", f"{faults.RECONCILE}/configuration", fault)
    made = checked("local")
    assert made.not_fine == {"functions": FAILED}
    assert_says(made["functions"], f"there is no function {faults.RECONCILE}", "npx sls remove")


def test_a_state_machine_that_is_gone(here: LocalStage, answering):
    fault = missing("StateMachineDoesNotExist")
    answering("SFN", "AWSStepFunctions.DescribeStateMachine", fault)
    answering("SFN", "AWSStepFunctions.ListExecutions", fault)
    made = checked("local")
    assert made.not_fine == {"state machines": FAILED}
    for name in ("local-ingestion", "local-load"):
        assert_says(made["state machines"], f"there is no state machine {name}", "npx sls remove")
    assert made["last execution"].detail == "see `state machines`"


def test_a_bucket_of_another_account(here: LocalStage, answering):
    answering("S3", "x-amz-expected-bucket-owner", refused(403, "AccessDenied"))
    made = checked("local")
    assert made.not_fine == {"bucket owner": FAILED}
    assert_says(made["bucket owner"], "belongs to another account", "bucketName")


def test_a_name_that_somebody_else_has_taken(here: LocalStage, answering):
    answering("S3", "HEAD /new-ingestion-bucket", refused(403, "AccessDenied"))
    with secret_of(here, "new"):
        made = checked("new")
    assert made.not_fine == {"bucket": FAILED}
    assert_says(made["bucket"], "new-ingestion-bucket belongs to somebody else", "bucketName")


def dated(**off: float) -> Any:
    """Return the fault that a service has another time."""

    def date(answer: Answer) -> Answer:
        there = datetime.now(UTC) - timedelta(**off)
        headers = [each for each in answer.headers if each[0].lower() != "date"]
        text = format_datetime(there, usegmt=True)
        assert parsedate_to_datetime(text)
        return Answer(answer.status, [*headers, ("Date", text)], answer.body)

    return altered(date)


@pytest.mark.parametrize(
    ("off", "outcome", "found"),
    [
        ({"minutes": 5}, WARNING, "this machine's is 5 minutes ahead of that of AWS"),
        ({"minutes": -5}, WARNING, "this machine's is 5 minutes behind that of AWS"),
        ({"minutes": 20}, FAILED, "20 minutes ahead"),
        ({"hours": -2}, FAILED, "120 minutes behind"),
    ],
)
def test_a_clock_that_is_wrong(here: LocalStage, answering, off, outcome, found):
    answering("STS", "GetCallerIdentity", dated(**off))
    made = checked("local")
    assert made.not_fine == {"clock": outcome}
    assert_says(made["clock"], found, "NTP")


def test_what_aws_says_is_said(here: LocalStage, answering):
    answering("S3", "?versioning", refused(418, "Teapot"))
    made = checked("local")
    assert made.not_fine == {"bucket versioning": FAILED}
    assert_says(made["bucket versioning"], "Teapot: Said the proxy", "GetBucketVersioning")


# --- who asks ---


def test_without_credentials_nothing_else_is_asked(here: LocalStage, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        monkeypatch.setenv(name, str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    made = checked("local")
    assert made.not_fine == {"credentials": FAILED}
    assert_says(made["credentials"], "Unable to locate credentials", "Log in")
    assert set(made.skipped) == set(made) - {"credentials"}
    assert set(made.skipped.values()) == {"see `credentials`"}


def test_credentials_of_nobody(here: LocalStage, answering):
    body = b"<ErrorResponse><Error><Code>InvalidClientTokenId</Code></Error></ErrorResponse>"
    refusal = altered(lambda answer: Answer(403, answer.headers, body))
    answering("STS", "GetCallerIdentity", refusal)
    made = checked("local")
    assert made.not_fine == {"credentials": FAILED}
    assert_says(made["credentials"], "InvalidClientTokenId", "Log in")


@pytest.fixture
def nobody(here: LocalStage, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Be a user who may do nothing, while the stand-in asks IAM."""
    client, name = here.aws.client("iam"), "nobody"
    client.create_user(UserName=name)
    key = client.create_access_key(UserName=name)["AccessKey"]
    client.put_user_policy(
        UserName=name,
        PolicyName="almost-nothing",
        PolicyDocument=json.dumps(
            {
                "Version": "2012-10-17",
                "Statement": [
                    {"Effect": "Allow", "Action": "sts:GetCallerIdentity", "Resource": "*"}
                ],
            }
        ),
    )
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key["AccessKeyId"])
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", key["SecretAccessKey"])
    asked = f"{here.aws.endpoint}/moto-api/reset-auth"
    requests.post(asked, data=b"0", timeout=10)
    try:
        yield
    finally:
        requests.post(asked, data=b"inf", timeout=10)
        client.delete_access_key(UserName=name, AccessKeyId=key["AccessKeyId"])
        client.delete_user_policy(UserName=name, PolicyName="almost-nothing")
        client.delete_user(UserName=name)


@pytest.mark.usefixtures("nobody")
def test_what_the_caller_may_not_see_is_skipped_with_the_permission(here: LocalStage):
    made = checked("local")
    assert made.not_fine == {}
    for name, action in {
        "settings": "lambda:GetFunctionConfiguration",
        "secret": "secretsmanager:DescribeSecret",
        "secret form": "secretsmanager:GetSecretValue",
        "bucket": "s3:ListBucket",
        "stack": "cloudformation:DescribeStacks",
    }.items():
        assert made[name].outcome is SKIPPED
        assert made[name].detail == f"{action} is not allowed"
        assert made[name].remedy == f"Allow {action} to whoever runs this."


def test_no_call_writes_and_each_has_its_permission(here: LocalStage, monkeypatch):
    made: set[str] = set()
    call = BaseClient._make_api_call  # type: ignore[attr-defined]

    def recording(client: BaseClient, operation: str, parameters: dict[str, Any]) -> Any:
        made.add(operation)
        return call(client, operation, parameters)

    before = {key: here.landed.read(key) for key in here.landed.all_keys()}
    monkeypatch.setattr(BaseClient, "_make_api_call", recording)
    checked("local")
    checked("nowhere")
    assert made == set(ACTIONS)
    monkeypatch.undo()
    assert {key: here.landed.read(key) for key in here.landed.all_keys()} == before


def test_main_returns_whether_a_check_failed(here: LocalStage, capsys):
    assert doctor.main(["--stage", "local"]) == 0
    assert doctor.main(["--stage", "nowhere", "--json"]) == 1
    assert "local/totesys" in capsys.readouterr().out
