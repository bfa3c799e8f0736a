"""`make load`: a load is started, followed, left alone, followed again, and what it says."""

from __future__ import annotations

import json
import re
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from botocore.client import BaseClient

from local import totesys
from local.comparison import compare
from tests.helpers.faults.stage_faults import BAD_ORDER
from tests.helpers.oracle.pages import blocks, page, section
from tests.helpers.runs.commands import reach, status
from tests.helpers.runs.drills import configured
from tools import load, progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.stage import LocalStage

pytestmark = pytest.mark.e2e

BATCH_ROWS, ROWS = 100, 500
WORDS = ["--stage", "local", "sales_order", "--workers", "2"]


@pytest.fixture(scope="module")
def small_batches(stage: LocalStage) -> Iterator[LocalStage]:
    """The stage with small batches, caught up."""
    with configured(stage, {"BATCH_ROWS": str(BATCH_ROWS)}):
        assert stage.run().status == "SUCCEEDED"
        yield stage


@pytest.fixture
def stage_with_rows(small_batches: LocalStage, monkeypatch: pytest.MonkeyPatch) -> LocalStage:
    """The stage with new rows in a table, which this process reaches."""
    reach(small_batches, monkeypatch)
    monkeypatch.setattr(progress, "POLL_SECONDS", 0.1)
    totesys.bulk_sales_orders(small_batches.database, ROWS)
    return small_batches


@pytest.fixture
def on_line(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, Callable[[], object]], list[str]]:
    """Do something once a line is said that has a text; the lines that were said."""

    def install(text: str, do: Callable[[], object]) -> list[str]:
        said: list[str] = []

        def say(line: str, _level: str) -> None:
            is_first = text in line and not any(text in each for each in said)
            said.append(line)
            if is_first:
                do()

        @contextmanager
        def lines(_title: str) -> Iterator[Callable[[str, str], None]]:
            yield say

        monkeypatch.setattr(load, "lines_while_waiting", lines)
        return said

    return install


def interrupt() -> None:
    raise KeyboardInterrupt


def equal(stage: LocalStage) -> bool:
    return all(each.equal for each in compare(stage.database, stage.landed))


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """The actions of the calls of AWS that were made so far, as IAM names them."""
    found = set[str]()
    call = BaseClient._make_api_call  # type: ignore[attr-defined]

    def recording(client: Any, name: str, parameters: Any) -> Any:
        service = client.meta.service_model.signing_name
        found.add(f"{service}:{name}")
        return call(client, name, parameters)

    monkeypatch.setattr(BaseClient, "_make_api_call", recording)
    return found


def allowed() -> set[str]:
    """The actions that the page says are needed."""
    [policy] = blocks(section(page("docs/operating.md"), "Load a large table"), "json")
    actions = [each["Action"] for each in json.loads(policy)["Statement"]]
    return {name for each in actions for name in ([each] if isinstance(each, str) else each)}


def test_a_load_is_followed_to_its_end_with_the_rights_that_the_page_names(
    stage_with_rows: LocalStage, capsys: pytest.CaptureFixture[str], made: set[str]
):
    assert load.main(WORDS) == 0
    assert made - {"sts:GetCallerIdentity"} == allowed() - {"states:StopExecution"}
    said = capsys.readouterr().out
    assert said.startswith("Loading sales_order of local in eu-west-2:\n")
    assert re.search(r"^ +[\d:]{8} planning: the batches are claimed", said, re.MULTILINE)
    assert re.search(r" INFO  Batches of a load claimed: table=sales_order workers=2 ", said)
    assert f"Landed: {ROWS:,} rows in {ROWS // BATCH_ROWS} batches." in said
    [row] = re.findall(r"^sales_order .*$", said, re.MULTILINE)
    batches = str(ROWS // BATCH_ROWS)
    assert row.split()[:5] == ["sales_order", batches, batches, f"{ROWS:,}", "0"]
    assert equal(stage_with_rows)


def test_ctrl_c_leaves_the_load_alone_and_the_same_command_follows_it_again(
    stage_with_rows: LocalStage,
    on_line: Callable[[str, Callable[[], object]], list[str]],
    capsys: pytest.CaptureFixture[str],
):
    stage = stage_with_rows
    with closing(stage.server.connect("totesys")) as writer:
        writer.run("BEGIN")
        writer.run(BAD_ORDER)
        on_line("planning", interrupt)
        assert load.main(WORDS) == 130
        said = capsys.readouterr().err
        assert "\n\nmake load TABLE=sales_order STAGE=local\n\n" in said
        [arn] = re.findall(
            r"stop-execution --region eu-west-2 --execution-arn (\S+local-load:\S+)\n", said
        )
        assert re.search(r":sales_order-\w+-[\dT-]{19}$", arn)

        shown = status(stage)
        assert "A load of sales_order is under way: planning; it began at 20" in shown
        assert "To follow it: make load TABLE=sales_order STAGE=local" in shown
        [standing] = json.loads(status(stage, "--json"))["loads"]
        assert standing | {"started_at": ""} == {
            "table": "sales_order",
            "execution": arn,
            "started_at": "",
            "phase": "planning",
            "batches": None,
            "done": 0,
        }

        on_line("planning", lambda: writer.run("ROLLBACK"))
        assert load.main(WORDS) == 0
    shown = capsys.readouterr().out
    assert "A load of sales_order of local in eu-west-2 is under way" in shown
    client = stage.aws.client("stepfunctions")
    assert client.describe_execution(executionArn=arn)["status"] == "SUCCEEDED"
    assert equal(stage)


def test_a_load_that_is_refused_is_an_error_with_its_remedy(
    stage_with_rows: LocalStage, capsys: pytest.CaptureFixture[str]
):
    """Its rows are left to whoever comes next."""
    with pytest.raises(SystemExit, match="Take fewer workers") as ended:
        load.main([*WORDS, "--workers", "200", "--json"])
    assert str(ended.value.code).startswith("The load failed: SourceError: 200 workers, a run and")
    assert "To start it again: make load TABLE=sales_order STAGE=local" in str(ended.value.code)
    said = json.loads(capsys.readouterr().out)
    assert (said["status"], said["error"], said["output"]) == ("FAILED", "SourceError", None)


def test_for_machines_the_answer_alone_is_on_standard_output(
    stage_with_rows: LocalStage, capsys: pytest.CaptureFixture[str]
):
    assert stage_with_rows.run().status == "SUCCEEDED"
    totesys.bulk_sales_orders(stage_with_rows.database, ROWS)
    assert load.main([*WORDS, "--json"]) == 0
    printed = capsys.readouterr()
    said = json.loads(printed.out)
    assert (said["status"], said["output"]["rows"], said["error"]) == ("SUCCEEDED", ROWS, "")
    assert ":local-load:sales_order-" in said["execution"]
    assert said["batches"] == ROWS // BATCH_ROWS
    assert "Loading sales_order of local" in printed.err
