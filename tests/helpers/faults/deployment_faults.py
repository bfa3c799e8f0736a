"""Faults of what is deployed, as somebody makes them in the console; each is undone at the end."""

from __future__ import annotations

import io
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from local.aws.template import physical_names
from tests.helpers.faults import stage_faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.stage import LocalStage

RECONCILE = "totesys-ingestion-local-reconcile"
EMAIL = "data@example.com"


@contextmanager
def undone(do: Callable[[], Any], undo: Callable[[], Any]) -> Iterator[None]:
    """Do something, and undo it at the end."""
    do()
    try:
        yield
    finally:
        undo()


def resource(stage: LocalStage, logical: str) -> str:
    """Return what a resource is called."""
    return physical_names(stage.aws.client("cloudformation"), stage.stack)[logical]


# The bucket.


@contextmanager
def versioning_suspended(stage: LocalStage) -> Iterator[None]:
    """Objects that are overwritten are lost."""
    client, bucket = stage.aws.client("s3"), stage.landed.bucket_name

    def put(status: str) -> None:
        client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": status})

    with undone(lambda: put("Suspended"), lambda: put("Enabled")):
        yield


@contextmanager
def public_access_allowed(stage: LocalStage, *which: str) -> Iterator[None]:
    """Something public is not blocked any more; everything by default."""
    client, bucket = stage.aws.client("s3"), stage.landed.bucket_name
    before = client.get_public_access_block(Bucket=bucket)["PublicAccessBlockConfiguration"]

    def put(settings: dict[str, bool]) -> None:
        client.put_public_access_block(Bucket=bucket, PublicAccessBlockConfiguration=settings)

    def allow() -> None:
        if which:
            put(before | dict.fromkeys(which, False))
        else:
            client.delete_public_access_block(Bucket=bucket)

    with undone(allow, lambda: put(before)):
        yield


@contextmanager
def policy_changed(stage: LocalStage, said: str = "", instead: str = "") -> Iterator[None]:
    """The bucket's policy says something else; without words it is deleted."""
    client, bucket = stage.aws.client("s3"), stage.landed.bucket_name
    before = client.get_bucket_policy(Bucket=bucket)["Policy"]

    def change() -> None:
        client.delete_bucket_policy(Bucket=bucket)
        if said:
            assert said in before
            client.put_bucket_policy(Bucket=bucket, Policy=before.replace(said, instead))

    with undone(change, lambda: client.put_bucket_policy(Bucket=bucket, Policy=before)):
        yield


@contextmanager
def encrypted_by_kms(stage: LocalStage) -> Iterator[None]:
    """Objects are encrypted with a key of the company."""
    client, bucket = stage.aws.client("s3"), stage.landed.bucket_name

    def put(**by: str) -> None:
        rules = [{"ApplyServerSideEncryptionByDefault": by}]
        client.put_bucket_encryption(
            Bucket=bucket, ServerSideEncryptionConfiguration={"Rules": rules}
        )

    with undone(
        lambda: put(SSEAlgorithm="aws:kms", KMSMasterKeyID="alias/ours"),
        lambda: put(SSEAlgorithm="AES256"),
    ):
        yield


# The functions and their logs.


@contextmanager
def reconfigured(stage: LocalStage, **settings: Any) -> Iterator[None]:
    """The function of the reconciliation has other settings."""
    client = stage.aws.client("lambda")
    found = client.get_function_configuration(FunctionName=RECONCILE)
    before = {name: found.get(name, {}) for name in settings}
    if "Layers" in settings:
        before["Layers"] = [each["Arn"] for each in found["Layers"]]
    change = client.update_function_configuration
    with undone(
        lambda: change(FunctionName=RECONCILE, **settings),
        lambda: change(FunctionName=RECONCILE, **before),
    ):
        yield


@contextmanager
def older_layer(stage: LocalStage) -> Iterator[None]:
    """The function of the reconciliation has a layer, but not the one that was deployed."""
    made = stage.aws.client("lambda").publish_layer_version(
        LayerName="another", Content={"ZipFile": _zip("python/nothing.py")}
    )
    with reconfigured(stage, Layers=[made["LayerVersionArn"]]):
        yield


@contextmanager
def other_code(stage: LocalStage) -> Iterator[None]:
    """Somebody has updated the code of the function of the reconciliation."""
    client = stage.aws.client("lambda")
    package = stage.resources()["ReconcileLambdaFunction"]["Properties"]["Code"]
    place = {"S3Bucket": resource(stage, package["S3Bucket"]["Ref"]), "S3Key": package["S3Key"]}
    with undone(
        lambda: client.update_function_code(FunctionName=RECONCILE, ZipFile=_zip("x.py")),
        lambda: client.update_function_code(FunctionName=RECONCILE, **place),
    ):
        yield


def _zip(name: str) -> bytes:
    with io.BytesIO() as made:
        with zipfile.ZipFile(made, "w") as archive:
            archive.writestr(name, "")
        return made.getvalue()


@contextmanager
def log_kept(stage: LocalStage, days: int | None) -> Iterator[None]:
    """A log is kept for another time, or for ever."""
    client, name = stage.aws.client("logs"), f"/aws/lambda/{RECONCILE}"

    def keep(days: int | None) -> None:
        if days is None:
            client.delete_retention_policy(logGroupName=name)
        else:
            client.put_retention_policy(logGroupName=name, retentionInDays=days)

    with undone(lambda: keep(days), lambda: keep(1)):
        yield


@contextmanager
def log_deleted(stage: LocalStage) -> Iterator[None]:
    """A log group is not there any more."""
    client, name = stage.aws.client("logs"), resource(stage, "StateMachineLogGroup")

    def create() -> None:
        client.create_log_group(logGroupName=name)
        client.put_retention_policy(logGroupName=name, retentionInDays=1)

    with undone(lambda: client.delete_log_group(logGroupName=name), create):
        yield


# What runs by itself.


@contextmanager
def schedule_disabled(stage: LocalStage, logical: str) -> Iterator[None]:
    """Somebody has disabled a rule."""
    client, name = stage.aws.client("events"), resource(stage, logical)
    with undone(lambda: client.disable_rule(Name=name), lambda: client.enable_rule(Name=name)):
        yield


@contextmanager
def schedule_without_target(stage: LocalStage, logical: str) -> Iterator[None]:
    """A rule starts nothing."""
    client, name = stage.aws.client("events"), resource(stage, logical)
    targets = client.list_targets_by_rule(Rule=name)["Targets"]
    ids = [each["Id"] for each in targets]
    with undone(
        lambda: client.remove_targets(Rule=name, Ids=ids),
        lambda: client.put_targets(Rule=name, Targets=targets),
    ):
        yield


@contextmanager
def schedule_deleted(stage: LocalStage, logical: str) -> Iterator[None]:
    """A rule is not there any more."""
    client, name = stage.aws.client("events"), resource(stage, logical)
    rule, targets = client.describe_rule(Name=name), client.list_targets_by_rule(Rule=name)
    expression = rule["ScheduleExpression"]

    def create() -> None:
        client.put_rule(Name=name, ScheduleExpression=expression, State="ENABLED")
        client.put_targets(Rule=name, Targets=targets["Targets"])

    def delete() -> None:
        client.remove_targets(Rule=name, Ids=[each["Id"] for each in targets["Targets"]])
        client.delete_rule(Name=name)

    with undone(delete, create):
        yield


@contextmanager
def another_role(stage: LocalStage, machine: str) -> Iterator[None]:
    """A state machine has a role that is not its own."""
    client = stage.aws.client("stepfunctions")
    before = client.describe_state_machine(stateMachineArn=machine)["roleArn"]
    other = before.rpartition("/")[0] + "/somebody"
    with undone(
        lambda: client.update_state_machine(stateMachineArn=machine, roleArn=other),
        lambda: client.update_state_machine(stateMachineArn=machine, roleArn=before),
    ):
        yield


@contextmanager
def run_failed(stage: LocalStage) -> Iterator[None]:
    """The last execution has failed."""
    with undone(lambda: stage.run({"tables": ["nonsense"]}), stage.run):
        yield


@contextmanager
def rows_missing(stage: LocalStage) -> Iterator[None]:
    """The reconciliation has found that rows are missing."""
    key = stage.landed.keys("department")[0]
    with undone(lambda: None, stage.reconcile), stage_faults.object_deleted(stage, key):
        stage.reconcile()
        yield


# The alarms.


def some_alarm(stage: LocalStage) -> dict[str, Any]:
    """Return an alarm of the stage, on a metric."""
    client = stage.aws.client("cloudwatch")
    found: dict[str, Any]
    found, *_ = client.describe_alarms(AlarmNamePrefix=stage.stack)["MetricAlarms"]
    return found


@contextmanager
def alarm_deleted(stage: LocalStage) -> Iterator[None]:
    """An alarm is not there any more."""
    alarm, client = some_alarm(stage), stage.aws.client("cloudwatch")
    shape = client.meta.service_model.operation_model("PutMetricAlarm").input_shape
    definition = {name: value for name, value in alarm.items() if name in shape.members}
    with undone(
        lambda: client.delete_alarms(AlarmNames=[alarm["AlarmName"]]),
        lambda: client.put_metric_alarm(**definition),
    ):
        yield


@contextmanager
def in_state(stage: LocalStage, state: str) -> Iterator[None]:
    """An alarm is in a state."""
    name, client = some_alarm(stage)["AlarmName"], stage.aws.client("cloudwatch")

    def put(state: str) -> None:
        client.set_alarm_state(AlarmName=name, StateValue=state, StateReason="a test")

    with undone(lambda: put(state), lambda: put("OK")):
        yield


@contextmanager
def actions_disabled(stage: LocalStage) -> Iterator[None]:
    """An alarm fires, and does nothing."""
    names = [some_alarm(stage)["AlarmName"]]
    client = stage.aws.client("cloudwatch")
    with undone(
        lambda: client.disable_alarm_actions(AlarmNames=names),
        lambda: client.enable_alarm_actions(AlarmNames=names),
    ):
        yield


@contextmanager
def subscribed(stage: LocalStage) -> Iterator[str]:
    """Somebody gets the emails; moto takes every subscription for confirmed."""
    client, topic = stage.aws.client("sns"), resource(stage, "AlarmTopic")
    made = client.subscribe(TopicArn=topic, Protocol="email", Endpoint=EMAIL)["SubscriptionArn"]
    try:
        yield made
    finally:
        client.unsubscribe(SubscriptionArn=made)
