"""`sls remove`, and deploying again onto the bucket that was kept, as docs/deploying.md says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from local import totesys
from local.aws.deployment import run_sls
from local.aws.stand_in import LocalAws
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


def log_groups(stage: LocalStage) -> set[str]:
    groups = stage.aws.client("logs").describe_log_groups()["logGroups"]
    return {each["logGroupName"] for each in groups}


def test_what_has_landed_stays_and_the_next_deployment_goes_on_from_it(own_stage, tmp_path):
    stage, environ = own_stage, own_stage.aws.subprocess_environ()
    assert stage.run().status == "SUCCEEDED"
    before, logged, groups = content(stage), stage.log.lines(), log_groups(stage)
    assert len(groups) == 3

    run_sls("remove", STAGE, environ, tmp_path / "remove.log")
    assert content(stage) == before
    assert stage.aws.client("lambda").list_functions()["Functions"] == []
    assert stage.aws.client("stepfunctions").list_state_machines()["stateMachines"] == []
    assert log_groups(stage) == groups
    assert stage.log.lines() == logged
    totesys.add_events(stage.database, 5)

    again = ("--param=createBucket=false", "--param=createLogGroups=false")
    with pytest.raises(RuntimeError, match="already exists"):
        run_sls("deploy", STAGE, environ, tmp_path / "failed.log", again[:1])
    run_sls("deploy", STAGE, environ, tmp_path / "deploy.log", again)
    execution = stage.run()
    assert (execution.status, execution.output["rows"]) == ("SUCCEEDED", 15)
    assert [each.table for each in compare(stage.database, stage.landed) if not each.equal] == []
    assert stage.log.lines()[: len(logged)] == logged != stage.log.lines()
    after = content(stage)
    assert {key: after[key] for key in before if key.endswith(".jsonl")} == {
        key: body for key, body in before.items() if key.endswith(".jsonl")
    }

    # And away once more: the second stack never had the bucket, nor the log groups.
    run_sls("remove", STAGE, environ, tmp_path / "remove-again.log", again)
    assert content(stage) == after
    assert log_groups(stage) == groups


def test_prod_is_not_removed_before_its_protection_is_switched_off(tmp_path):
    with LocalAws() as aws:
        environ, stack = aws.subprocess_environ(), "totesys-ingestion-prod"
        run_sls("deploy", "prod", environ, tmp_path / "deploy.log")
        functions = aws.client("lambda").list_functions()["Functions"]
        with pytest.raises(RuntimeError, match="deletion protection is enabled"):
            run_sls("remove", "prod", environ, tmp_path / "refused.log")
        assert aws.client("lambda").list_functions()["Functions"] == functions != []
        aws.client("cloudformation").update_termination_protection(
            StackName=stack, EnableTerminationProtection=False
        )
        run_sls("remove", "prod", environ, tmp_path / "remove.log")
        assert aws.client("lambda").list_functions()["Functions"] == []
