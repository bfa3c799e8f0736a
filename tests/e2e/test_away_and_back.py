"""`sls remove`, and deploying again onto the bucket that was kept, as docs/deploying.md says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local import totesys
from local.aws.deployment import run_sls
from local.comparison import compare
from local.stage import STAGE, LocalStage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [pytest.mark.e2e, pytest.mark.long]


@pytest.fixture
def own_stage() -> Iterator[LocalStage]:
    """A stage of its own."""
    with LocalStage(events=300) as stage:
        yield stage


def content(stage: LocalStage) -> dict[str, bytes]:
    return {key: stage.landed.read(key) for key in stage.landed.all_keys()}


def test_what_has_landed_stays_and_the_next_deployment_goes_on_from_it(own_stage, tmp_path):
    stage, environ = own_stage, own_stage.aws.subprocess_environ()
    assert stage.run().status == "SUCCEEDED"
    before = content(stage)

    run_sls("remove", STAGE, environ, tmp_path / "remove.log")
    assert content(stage) == before
    assert stage.aws.client("lambda").list_functions()["Functions"] == []
    assert stage.aws.client("stepfunctions").list_state_machines()["stateMachines"] == []
    totesys.add_events(stage.database, 5)

    again = ("--param=createBucket=false",)
    run_sls("deploy", STAGE, environ, tmp_path / "deploy.log", again)
    execution = stage.run()
    assert (execution.status, execution.output["rows"]) == ("SUCCEEDED", 15)
    assert [each.table for each in compare(stage.database, stage.landed) if not each.equal] == []
    after = content(stage)
    assert {key: after[key] for key in before if key.endswith(".jsonl")} == {
        key: body for key, body in before.items() if key.endswith(".jsonl")
    }

    # And away once more: the second stack never had the bucket.
    run_sls("remove", STAGE, environ, tmp_path / "remove-again.log", again)
    assert content(stage) == after
