"""A row that is deleted has its tombstone with the next tick, and nothing is called otherwise."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest

from local.aws.function_log import calls
from tests.helpers.faults import stage_faults

if TYPE_CHECKING:
    from local.stage import LocalStage

pytestmark = pytest.mark.e2e


def changes_of_addresses(stage: LocalStage) -> list[str]:
    keys = stage.landed.all_keys("changes/address/0")
    return stage.landed.read(keys[-1]).decode().splitlines()


def compared_after(stage: LocalStage, seen: int) -> list[list[str]]:
    deadline = time.monotonic() + 60
    while not (found := list(calls(stage.reconcile_log.lines()[seen:]))):
        assert time.monotonic() < deadline, "the reconciliation was not called"
    return found


def test_a_deleted_row_has_its_tombstone_with_the_next_tick(stage: LocalStage):
    stage.database.run(stage_faults.NEW_ADDRESS)
    stage.run()
    stage.reconcile()
    seen = len(stage.reconcile_log.lines())
    stage.run()
    [[row_id]] = stage.database.run("SELECT max(address_id) FROM address")
    stage.database.run(f"CREATE TABLE gone AS SELECT * FROM address WHERE address_id = {row_id}")
    stage.database.run(f"DELETE FROM address WHERE address_id = {row_id}")
    stage.database.run("SELECT pg_stat_force_next_flush()")  # else it may count it a second later
    began = time.monotonic()
    execution = stage.run()
    assert execution.status == "SUCCEEDED"
    [lines] = compared_after(stage, seen)
    print(f"{time.monotonic() - began:.1f} s from the DELETE to its tombstone")
    assert changes_of_addresses(stage) == [f'{{"address_id":{row_id},"_deleted":true}}']
    tables = [json.loads(line).get("table") for line in lines if "Table reconciled" in line]
    assert tables == ["address"]
    seen = len(stage.reconcile_log.lines())
    # Once it is put in again, the change stream has it again.
    stage.database.run("INSERT INTO address OVERRIDING SYSTEM VALUE TABLE gone; DROP TABLE gone")
    stage.database.run("SELECT pg_stat_force_next_flush()")
    stage.run()
    [line] = changes_of_addresses(stage)
    assert json.loads(line) == stage.landed.lines("address")[-1]
    assert stage.reconcile_log.lines()[seen:] == []
