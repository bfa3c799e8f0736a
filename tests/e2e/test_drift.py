"""Everything that can be wrong with a Totesys, found by what was deployed in the very next run."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from local.cloudwatch.log_filters import matches
from local.stage import LocalStage
from tests.helpers.faults.drifts import DRIFTS, WAVES, Damage, said, values_of
from tests.helpers.oracle.cloudwatch import metric_filters

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.e2e
PATTERN = metric_filters()["ContractsBrokenFilter"]["FilterPattern"]


def run(stage: LocalStage) -> list[list[object]]:
    """Run; return what the log lines say that CloudWatch counts as errors."""
    before = len(stage.log.lines())
    assert stage.run().status == "SUCCEEDED"
    lines = stage.log.lines()[before:]
    return said([json.loads(line) for line in lines if matches(PATTERN, line)])


@pytest.fixture
def damaged_stage() -> Iterator[LocalStage]:
    """A stage of its own, that has caught up."""
    with LocalStage(events=100) as stage:
        assert run(stage) == []
        yield stage


@pytest.mark.long
def test_each_drift_and_each_broken_value_is_one_error_line_of_the_next_run(damaged_stage):
    damage = Damage(damaged_stage.database)
    for wave in range(WAVES):
        last = damage.break_values(wave)
        assert run(damaged_stage) == sorted(
            [*place, "value", found, 1, [last[place]]]
            for place, (_, found) in values_of(wave).items()
        )
        for (table, column), row_id in last.items():
            damage.mend(table, column, row_id)
    for drift in DRIFTS:
        damaged_stage.database.run(f"ALTER TABLE {drift.table} {drift.change}")
    assert run(damaged_stage) == sorted(
        [drift.table, drift.column, drift.kind, drift.found.partition(" (")[0], 0, []]
        for drift in DRIFTS
    )


REVERSIBLE = [
    ("ADD mood text", "DROP mood", ["design", "mood", "column added", "text", 0, []]),
    ("ALTER file_name TYPE varchar(99)", "ALTER file_name TYPE text",
     ["design", "file_name", "type", "character varying(99)", 0, []]),
    ("ALTER file_name DROP NOT NULL", "ALTER file_name SET NOT NULL",
     ["design", "file_name", "nullability", "NULL allowed", 0, []]),
]  # fmt: skip


def test_a_table_declared_anew_is_one_error_line_of_the_next_run(stage: LocalStage):
    run(stage)
    for change, back, line in REVERSIBLE:
        stage.database.run(f"ALTER TABLE design {change}")
        assert run(stage) == [line]
        stage.database.run(f"ALTER TABLE design {back}")
    assert run(stage) == []


def test_a_broken_value_is_one_error_line_of_the_next_run(stage: LocalStage):
    run(stage)
    [[row_id]] = stage.database.run(
        "INSERT INTO currency (currency_code, created_at, last_updated)"
        " VALUES ('gbp', now(), now()) RETURNING currency_id"
    )
    line = ["currency", "currency_code", "value", "string against pattern", 1, [row_id]]
    assert run(stage) == [line]
    assert run(stage) == []
