"""`sls rollback` to a deployment from before the layer changed, as docs/deploying.md says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from local.aws.deployment import run_sls
from local.aws.stand_in import LocalAws
from local.stage import STACK, STAGE
from tests.helpers.next_service import copy_service

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = [pytest.mark.e2e, pytest.mark.long]

# As many as the framework keeps by default, with the newest.
DEPLOYMENTS = 5
LAYER = "description: pandas and pg8000"


@pytest.fixture
def service(tmp_path: Path) -> Path:
    """A copy of the service, whose layer can be changed."""
    folder = tmp_path / "service"
    copy_service(folder)
    return folder


@pytest.fixture
def aws() -> Iterator[LocalAws]:
    """An account in which nothing is deployed."""
    with LocalAws() as aws:
        yield aws


def running(aws: LocalAws) -> tuple[str, str]:
    """How many rows a batch has, and what the function's layer is described as."""
    client = aws.client("lambda")
    found: dict[str, Any] = client.get_function_configuration(FunctionName=f"{STACK}-ingest")
    [layer] = found["Layers"]
    *_, layer_name, number = layer["Arn"].split(":")
    version = client.get_layer_version(LayerName=layer_name, VersionNumber=int(number))
    return found["Environment"]["Variables"]["BATCH_ROWS"], version["Description"]


def test_a_rollback_finds_the_layer_of_its_deployment(aws, service, tmp_path):
    def sls(command: str, *options: str) -> str:
        log: Path = tmp_path / "sls.log"
        run_sls(command, STAGE, aws.subprocess_environ(), log, options, service)
        return log.read_text()

    for number in range(DEPLOYMENTS):
        sls("deploy", f"--param=batchRows=100{number}")
    before = running(aws)
    page = service / "serverless.yml"
    page.write_text(page.read_text().replace(LAYER, "description: something else"))
    sls("deploy")
    assert "something else" in running(aws)[1] != before[1]

    timestamps = re.findall(r"^\s*Timestamp: (\d+)$", sls("deploy list"), re.MULTILINE)
    sls("rollback", f"--timestamp={timestamps[-2]}")
    assert (
        running(aws) == before == (f"100{DEPLOYMENTS - 1}", "pandas and pg8000 for the ingestion")
    )

    # Forward again, with the same files as before the rollback: not skipped as unchanged.
    sls("deploy", "--force")
    assert "something else" in running(aws)[1]
