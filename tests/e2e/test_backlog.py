"""A first load that no single call and no single execution can do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from local import totesys
from local.stage import LocalStage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from local.aws.execution import Execution

pytestmark = [pytest.mark.e2e, pytest.mark.long]

ROWS = 5_000_000
CALL_SECONDS = 20
EXECUTION_SECONDS = 20
BATCH_ROWS = 50_000


@pytest.fixture
def slow_stage() -> Iterator[LocalStage]:
    """A stage of its own, whose calls and executions have little time."""
    with LocalStage(events=300) as stage:
        client = stage.aws.client("lambda")
        found = client.get_function_configuration(FunctionName=stage.function_name)
        variables = found["Environment"]["Variables"]
        client.update_function_configuration(
            FunctionName=stage.function_name,
            Timeout=CALL_SECONDS,
            Environment={"Variables": variables | {"BACKLOG_SECONDS": str(EXECUTION_SECONDS)}},
        )
        yield stage


def landed_ids(stage: LocalStage, table: str) -> list[int]:
    pattern = re.compile(rb'^\{"' + table.encode() + rb'_id":(\d+),', re.MULTILINE)
    return [
        int(row_id)
        for key in stage.landed.keys(table)
        for row_id in pattern.findall(stage.landed.read(key))
    ]


def peak_megabytes(stage: LocalStage) -> list[int]:
    """Return the function's peak memory at the end of each call, as Lambda reports it."""
    reports = [line for line in stage.log.lines() if line.startswith("REPORT")]
    return [int(mb) for line in reports for mb in re.findall(r"Max Memory Used: (\d+) MB", line)]


def test_five_million_rows_land_over_several_calls_and_executions(slow_stage):
    stage = slow_stage
    totesys.bulk_sales_orders(stage.database, ROWS)
    executions: list[Execution] = []
    while not executions or executions[-1].output["more"]:
        totesys.add_events(stage.database, 3, seed=1000 + len(executions))
        executions.append(stage.run())
        assert executions[-1].status == "SUCCEEDED"
        # The backlog of one table starves no other.
        payments = stage.database.run("SELECT payment_id FROM payment ORDER BY 1")
        assert landed_ids(stage, "payment") == [row_id for [row_id] in payments]
    expected = stage.database.run("SELECT sales_order_id FROM sales_order ORDER BY 1")
    assert landed_ids(stage, "sales_order") == [row_id for [row_id] in expected]
    memory = peak_megabytes(stage)
    assert len(executions) > 1
    assert len(memory) > len(executions)
    half = len(memory) // 2
    assert max(memory[half:]) < 1.25 * max(memory[:half])
    print(f"\n{len(executions)} executions, {len(memory)} calls, {max(memory)} MB at most")
