"""A load through the deployed state machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local import totesys
from local.comparison import compare
from tests.helpers.faults.s3 import client_killed, faulty_s3
from tests.helpers.runs.drills import configured

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.stage import LocalStage
    from tests.helpers.faults.s3 import Fault, Request

pytestmark = pytest.mark.e2e

BATCH_ROWS = 100
ROWS = 2_500


@pytest.fixture
def small_batches(stage: LocalStage) -> Iterator[LocalStage]:
    """The stage with small batches, and new rows in a table."""
    assert stage.run().status == "SUCCEEDED"
    client = stage.aws.client("lambda")
    found = client.get_function_configuration(FunctionName=stage.function_name)
    before = found["Environment"]["Variables"]["BATCH_ROWS"]
    stage.set_variables(BATCH_ROWS=str(BATCH_ROWS))
    totesys.bulk_sales_orders(stage.database, ROWS)
    yield stage
    stage.set_variables(BATCH_ROWS=before)


def different(stage: LocalStage) -> set[str]:
    return {each.table for each in compare(stage.database, stage.landed) if not each.equal}


def test_a_load_lands_a_table_by_several_workers(small_batches: LocalStage):
    stage = small_batches
    assert different(stage) == {"sales_order"}
    before = stage.landed.keys("sales_order")
    execution = stage.load("sales_order", 3)
    assert execution.status == "SUCCEEDED", execution.cause
    done = execution.output
    assert (done["rows"], done["batches"], done["failed"]) == (ROWS, ROWS // BATCH_ROWS, 0)
    assert different(stage) == set()
    assert len(stage.landed.keys("sales_order")) == len(before) + ROWS // BATCH_ROWS
    totesys.add_events(stage.database, 3)
    assert stage.run().status == "SUCCEEDED"
    assert different(stage) == set()


def test_a_worker_that_is_killed_stops_no_other(small_batches: LocalStage):
    """The last run lands what it has left."""
    stage = small_batches
    last = stage.database.run("SELECT max(sales_order_id) FROM sales_order")[0][0]
    claim = f"claims/sales_order/{last - 2 * BATCH_ROWS}.json"
    killed: list[str] = []

    def choose(request: Request) -> Fault | None:
        is_the_one = request.place == f"GET {claim}" and not killed
        if is_the_one:
            killed.append(request.place)
        return client_killed if is_the_one else None

    with faulty_s3(stage.aws.endpoint) as proxy:
        proxy.choose = choose
        with configured(stage, {"AWS_ENDPOINT_URL_S3": proxy.url}):
            execution = stage.load("sales_order", 3)
    assert execution.status == "SUCCEEDED", execution.cause
    assert execution.output["failed"] == len(killed) == 1
    assert execution.output["batches"] == ROWS // BATCH_ROWS - 1
    assert different(stage) == set()


def test_a_load_that_can_not_begin_fails_and_says_why(stage: LocalStage):
    execution = stage.load("sales_order", 200)
    assert (execution.status, execution.error) == ("FAILED", "SourceError")
    assert execution.cause
    assert "Take fewer workers" in execution.cause
    assert stage.load("orders", 2).error == "EventError"


def test_a_table_of_which_all_has_landed_is_loaded_at_once(stage: LocalStage):
    assert stage.run().status == "SUCCEEDED"
    execution = stage.load("design", 2)
    assert execution.status == "SUCCEEDED", execution.cause
    assert execution.output["rows"] == 0
