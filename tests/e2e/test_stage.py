"""What was deployed ingests Totesys: the state machine, the function's zip and its layer."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest
from pg8000.native import identifier

from local import REPOSITORY, demo, totesys
from local.aws.deployment import SLS
from local.aws.schedule import scheduled
from local.comparison import compare
from local.stage import STACK
from shared.tables import TABLES
from tests.helpers.faults import stage_faults
from tests.helpers.faults.stage_faults import NEW_ADDRESS
from tests.helpers.oracle.contracts import contract_of, lands_as_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stage import LocalStage

pytestmark = pytest.mark.e2e


@pytest.fixture
def caught_up(stage: LocalStage) -> LocalStage:
    """The stage with all that is in Totesys landed."""
    assert stage.run().status == "SUCCEEDED"
    return stage


@pytest.fixture
def wrong_password(stage: LocalStage) -> Iterator[None]:
    with stage_faults.wrong_password(stage):
        yield


def in_totesys(stage: LocalStage, table: str) -> list[dict[str, Any]]:
    """Return a table's rows as PostgreSQL writes them as JSON."""
    order = identifier(f"{table}_id")
    rows = stage.database.run(
        f"SELECT row_to_json(t)::text FROM {identifier(table)} AS t ORDER BY {order}"
    )
    return [comparable(table, text) for (text,) in rows]


def landed(stage: LocalStage, table: str) -> list[dict[str, Any]]:
    text = b"".join(stage.landed.read(key) for key in stage.landed.keys(table))
    return [comparable(table, line) for line in text.decode().splitlines()]


def comparable(table: str, line: str) -> dict[str, Any]:
    """Read a row so that equal values are equal however many digits a timestamp has.

    Columns that don't land as they are, by the contract that was deployed, are left out.
    """
    row: dict[str, Any] = json.loads(line, parse_float=Decimal)
    deployed = json.loads((REPOSITORY / f"shared/contracts/{table}.json").read_text())
    for column, said in deployed["properties"].items():
        if "x-land" in said:
            row.pop(column, None)
    for column, rules in contract_of(table).items():
        if lands_as_timestamp(rules) and row.get(column) is not None:
            row[column] = datetime.fromisoformat(row[column])
    return row


def resources(stage: LocalStage, kind: str) -> list[dict[str, Any]]:
    """Return the properties of the deployed template's resources of one type."""
    client = stage.aws.client("cloudformation")
    template = client.get_template(StackName=STACK)["TemplateBody"]
    return [each["Properties"] for each in template["Resources"].values() if each["Type"] == kind]


def metrics_of(alarm: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the one metric an alarm watches, or all that its expressions are made of."""
    stats = [
        each["MetricStat"]["Metric"] for each in alarm.get("Metrics", []) if "MetricStat" in each
    ]
    return [{"Dimensions": []} | metric for metric in stats or [alarm]]


def different(stage: LocalStage) -> set[str]:
    """Return the tables that have not landed as they are."""
    return {each.table for each in compare(stage.database, stage.landed) if not each.equal}


def test_every_row_of_every_table_lands_once(caught_up: LocalStage):
    comparisons = compare(caught_up.database, caught_up.landed)
    assert {each.table for each in comparisons} == {*TABLES}
    assert all(each.source_ids for each in comparisons)
    assert [each.table for each in comparisons if not each.equal] == []


@pytest.mark.parametrize("table", TABLES)
def test_landed_rows_are_the_rows_of_totesys(caught_up: LocalStage, table: str):
    assert landed(caught_up, table) == in_totesys(caught_up, table)


@pytest.mark.parametrize("table", TABLES)
def test_keys_and_latest_json_are_as_specified(caught_up: LocalStage, table: str):
    key = caught_up.landed.keys(table)[-1]
    match = re.fullmatch(rf"{table}/(\d+)-(\d{{4}}-\d\d-\d\dT\d\d-\d\d-\d\d)\.jsonl", key)
    assert match
    lines = caught_up.landed.read(key).splitlines()
    assert int(match[1]) == json.loads(lines[-1])[f"{table}_id"]
    assert caught_up.landed.latest(table) == {
        "latest_row_id": int(match[1]),
        "timestamp": match[2],
        "rows_ingested": len(lines),
    }


def test_second_run_adds_the_new_rows_only(caught_up: LocalStage):
    before = {key: caught_up.landed.read(key) for key in caught_up.landed.all_keys()}
    totesys.add_events(caught_up.database, 5)
    execution = caught_up.run()
    rows = {table: done["rows"] for table, done in execution.output["tables"].items()}
    assert rows["payment"] == rows["transaction"] == 5
    assert rows["sales_order"] + rows["purchase_order"] == 5
    assert execution.output["rows"] == 15
    assert different(caught_up) == set()
    assert all(
        caught_up.landed.read(key) == content
        for key, content in before.items()
        if not key.endswith("latest.json")
    )


def test_idle_run_lands_nothing(caught_up: LocalStage):
    keys = caught_up.landed.all_keys()
    execution = caught_up.run()
    assert (execution.status, execution.output["rows"]) == ("SUCCEEDED", 0)
    assert caught_up.landed.all_keys() == keys


def test_what_changes_after_it_has_landed_is_in_the_change_stream(caught_up: LocalStage):
    database = caught_up.database
    ((payment_id,),) = database.run(
        "UPDATE payment SET paid = NOT paid"
        " WHERE payment_id = (SELECT max(payment_id) FROM payment)"
        " RETURNING payment_id"
    )
    database.run("SELECT pg_stat_force_next_flush()")
    execution = caught_up.run()
    assert execution.output["rows"] == 0
    done = execution.output["tables"]["payment"]
    line = caught_up.landed.read(done["changes_key"]).splitlines()[-1].decode()
    assert comparable("payment", line) == in_totesys(caught_up, "payment")[-1]
    assert comparable("payment", line)["payment_id"] == payment_id
    told = [line for line in caught_up.log.records() if line.get("table") == "payment"]
    assert told[-1]["changes"] == 1


def test_run_of_one_table_leaves_the_others_alone(caught_up: LocalStage):
    totesys.add_events(caught_up.database, 1)
    ((address_id,),) = caught_up.database.run(f"{NEW_ADDRESS} RETURNING address_id")
    execution = caught_up.run({"tables": ["address"]})
    assert [*execution.output["tables"]] == ["address"]
    assert caught_up.landed.lines("address")[-1]["address_id"] == address_id
    behind = different(caught_up)
    assert {"payment", "transaction"} < behind
    assert "address" not in behind


def test_unknown_table_fails_the_execution(stage: LocalStage):
    keys = stage.landed.all_keys()
    execution = stage.run({"tables": ["adress"]})
    assert (execution.status, execution.error) == ("FAILED", "EventError")
    assert execution.cause
    assert "adress" in execution.cause
    assert stage.log.records()[-1]["level"] == "ERROR"
    assert stage.landed.all_keys() == keys


@pytest.mark.usefixtures("wrong_password")
def test_wrong_password_fails_the_execution(stage: LocalStage):
    keys = stage.landed.all_keys()
    execution = stage.run()
    assert (execution.status, execution.error) == ("FAILED", "SourceError")
    assert execution.cause
    assert "password" in execution.cause
    assert "not it" not in "\n".join(stage.log.lines())
    assert stage.log.records()[-1]["level"] == "ERROR"
    assert stage.landed.all_keys() == keys


def test_alarms_on_our_metrics_watch_what_the_filters_count(caught_up: LocalStage):
    counted = {
        made["MetricName"]
        for each in resources(caught_up, "AWS::Logs::MetricFilter")
        for made in each["MetricTransformations"]
    }
    watched = {
        metric["MetricName"]
        for alarm in resources(caught_up, "AWS::CloudWatch::Alarm")
        for metric in metrics_of(alarm)
        if metric["Namespace"] == "Totesys"
    }
    assert watched == counted
    assert "local-rows-missing" in watched


def test_schedule_starts_the_state_machine_for_all_tables(stage: LocalStage):
    (target,) = scheduled(stage.aws.client("events"))
    assert target.schedule == "rate(10 minutes)"
    assert target.arn == stage.state_machine_arn
    assert json.loads(target.text) == {}


def test_sls_invoke_local_prints_the_summary(caught_up: LocalStage):
    totesys.add_events(caught_up.database, 2)
    done = subprocess.run(
        [SLS, "invoke", "local", "-f", "ingest", "--stage", "local"],
        cwd=REPOSITORY,
        env=caught_up.aws.subprocess_environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    # The framework sends what the function logs to stdout as well, before or behind the result.
    result = done.stdout[done.stdout.rindex("\n{\n") :].lstrip()
    summary, _ = json.JSONDecoder().raw_decode(result)
    assert summary["tables"]["payment"]["rows"] == 2
    assert different(caught_up) == set()


def test_reconcile_finds_an_object_that_was_deleted_until_it_is_restored(caught_up: LocalStage):
    """Per docs/operating.md: the version on top goes, be it a delete marker or a spoilt object."""
    client, bucket = caught_up.aws.client("s3"), caught_up.landed.bucket_name
    key = caught_up.landed.keys("department")[0]
    client.delete_object(Bucket=bucket, Key=key)
    assert reconciled(caught_up)["department"]["missing_ids"] == [[1, 8]]
    lines = caught_up.reconcile_log.records()
    [*_, missing] = [line for line in lines if line.get("alarm") == "rows-missing"]
    assert missing["missing"] == 8
    restore(caught_up, key)
    assert reconciled(caught_up)["department"]["missing"] == 0
    client.put_object(Bucket=bucket, Key=key, Body=caught_up.landed.read(key)[:-9])
    assert reconciled(caught_up)["department"]["missing_ids"] == [[8, 8]]
    restore(caught_up, key)
    assert reconciled(caught_up)["department"]["faults"] == []


def reconciled(stage: LocalStage) -> dict[str, Any]:
    """Call the nightly function; return what it wrote of each table."""
    called = stage.reconcile()
    assert not called.failed, called.payload
    assert called.payload["key"] == f"reconcile/{datetime.now(UTC):%Y-%m-%d}.json"
    tables: dict[str, Any] = json.loads(stage.landed.read(called.payload["key"]))["tables"]
    assert set(tables) == {*TABLES}
    return tables


def restore(stage: LocalStage, key: str) -> None:
    """Delete the version on top."""
    client, bucket = stage.aws.client("s3"), stage.landed.bucket_name
    found = client.list_object_versions(Bucket=bucket, Prefix=key)
    (latest,) = [
        each
        for each in [*found.get("Versions", []), *found.get("DeleteMarkers", [])]
        if each["IsLatest"]
    ]
    client.delete_object(Bucket=bucket, Key=key, VersionId=latest["VersionId"])


def test_demo_shows_it_and_finds_nothing_wrong(
    stage: LocalStage, capsys: pytest.CaptureFixture[str]
):
    assert demo.play(stage) == []
    shown = capsys.readouterr().out
    assert stage.landed.keys("sales_order")[-1] in shown
    assert json.dumps(stage.landed.latest("sales_order")) in shown
    queried = [" ".join(line.split()) for line in shown.splitlines()]
    assert all(" ".join(map(str, row)) in queried for row in stage.database.run(demo.QUERY))
    assert "Run ended" in shown


def test_demo_notices_a_row_that_did_not_land(caught_up: LocalStage):
    client = caught_up.aws.client("s3")
    key = caught_up.landed.keys("staff")[0]
    client.delete_object(Bucket=caught_up.landed.bucket_name, Key=key)
    try:
        (fault,) = demo.play(caught_up)
    finally:
        restore(caught_up, key)
    assert fault.startswith("staff: 20 rows in Totesys, 0 landed")


def test_demo_notices_an_execution_that_failed(
    stage: LocalStage, wrong_password: None, capsys: pytest.CaptureFixture[str]
):
    (fault,) = [fault for fault in demo.play(stage) if "FAILED" in fault]
    assert "SourceError" in fault
    assert "ERROR" in capsys.readouterr().out
