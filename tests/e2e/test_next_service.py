"""The service of docs/next-service.md, deployed as the page says, follows the ingestion."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from pg8000.native import Connection, literal

from local import totesys
from local.aws.function_log import FunctionLog
from local.stage import STACK, STAGE, LocalStage
from tests.helpers import next_service
from tests.helpers.oracle.untold import telling

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.long]

FUNCTION = f"{STACK}-warehouse"
PASSWORD = "the warehouse's password"
WAIT_SECONDS = 120


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStage]:
    """A stage of its own, with the next service."""
    folder: Path = tmp_path_factory.mktemp("extended") / "service"
    next_service.copy_service(folder)
    next_service.add_to(folder)
    with LocalStage(events=100, folder=folder) as running:
        yield running


@pytest.fixture(scope="module")
def warehouse(stage: LocalStage) -> Iterator[Connection]:
    """The tables of the warehouse, with its role and secret."""
    stage.server.create_database("warehouse")
    secret = stage.server.secret("warehouse") | {"username": "warehouse", "password": PASSWORD}
    stage.aws.client("secretsmanager").create_secret(
        Name=f"{STAGE}/warehouse", SecretString=json.dumps(secret)
    )
    with closing(stage.server.connect("warehouse")) as connection:
        connection.run(f"CREATE ROLE warehouse LOGIN PASSWORD {literal(PASSWORD)}")
        connection.run(next_service.schema())
        yield connection


def rows(connection: Connection) -> dict[str, Any]:
    return {
        name: connection.run(f"SELECT * FROM {name} ORDER BY {name}_id")
        for name in ("payment", "currency")
    }


def wait_for_call(stage: LocalStage, number: int) -> None:
    """Wait until the function has been called so often."""
    end = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < end:
        groups = stage.aws.client("logs").describe_log_groups(logGroupNamePrefix="/aws/lambda/")
        if f"/aws/lambda/{FUNCTION}" in {each["logGroupName"] for each in groups["logGroups"]}:
            lines = FunctionLog(stage.aws.client("logs"), FUNCTION).lines()
            if sum(line.startswith("REPORT") for line in lines) >= number:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{FUNCTION} was not called {number} times in {WAIT_SECONDS} s.")


def wait_for_tombstones(stage: LocalStage, seen: int) -> None:
    """Wait until the reconciliation that the execution began has ended."""
    end = time.monotonic() + WAIT_SECONDS
    while not any(line.startswith("REPORT") for line in stage.reconcile_log.lines()[seen:]):
        assert time.monotonic() < end
        time.sleep(0.05)


def test_each_execution_brings_the_copy_up_to_date(stage: LocalStage, warehouse: Connection):
    assert stage.run().status == "SUCCEEDED"
    wait_for_call(stage, 1)
    assert rows(warehouse) == rows(stage.database)
    assert len(rows(warehouse)["payment"]) == 100

    totesys.add_events(stage.database, 5)
    stage.database.run("UPDATE payment SET payment_amount = 3.10, paid = NOT paid")
    stage.database.run("SELECT pg_stat_force_next_flush()")
    stage.database.run("ALTER TABLE design RENAME TO renamed")
    failed = stage.run()
    stage.database.run("ALTER TABLE renamed RENAME TO design")
    assert (failed.status, failed.error) == ("FAILED", "IngestionError")
    wait_for_call(stage, 2)
    assert rows(warehouse) == rows(stage.database)
    assert len(rows(warehouse)["payment"]) == 105

    assert stage.run().status == "SUCCEEDED"
    wait_for_call(stage, 3)
    lines = FunctionLog(stage.aws.client("logs"), FUNCTION).lines()
    assert sum(line.startswith("START") for line in lines) == 3  # once for each execution
    assert telling(lines) == []

    stage.database.run("DELETE FROM payment WHERE payment_id IN (7, 9)")
    stage.database.run("SELECT pg_stat_force_next_flush()")
    seen = len(stage.reconcile_log.lines())
    assert stage.run().status == "SUCCEEDED"
    wait_for_tombstones(stage, seen)
    assert stage.run().status == "SUCCEEDED"
    wait_for_call(stage, 5)
    assert rows(warehouse) == rows(stage.database)
    assert len(rows(warehouse)["payment"]) == 103
