"""How the answers of the functions are read by people."""

from __future__ import annotations

import re
from dataclasses import asdict

import pytest

from services.ingestion.summary import TableSummary
from services.reconciliation.findings import Findings
from services.reconciliation.report import counts
from tools.results import ingested, reconciled, replayed, restored, what_failed
from tools.stages import INGEST, RECONCILE


def run(more=False, **changes):
    payment = TableSummary(
        rows=1234, from_row_id=0, latest_row_id=1300, key="payment/1300-x.jsonl", duration_ms=2345
    )
    staff = asdict(TableSummary.of_none(20)) | changes
    return {"more": more, "rows": 1234, "tables": {"payment": asdict(payment), "staff": staff}}


def test_a_run_is_a_table_of_what_landed():
    result = ingested(run())
    assert result.lines == [
        "table     rows  watermark  held back  changes  broken rules     ms  last batch",
        "payment  1,234      1,300          0        0             0  2,345  payment/1300-x.jsonl",
        "staff        0         20          0        0             0      0  -",
    ]
    assert result.notes == ["Landed: 1,234 new rows, 0 changes."]
    assert result.is_good


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (run(changes=2), "1,234 new rows, 2 changes."),
        (run(more=True), "A backlog is left, .* The next tick continues with it"),
        (run(held_back_rows=1), "WARNING lines in the log name it"),
        (run(contract_violations=1), "broke their contract, and landed all the same"),
    ],
    ids=["changes", "backlog", "held back", "contract"],
)
def test_what_is_not_as_always_is_said_and_is_no_failure(answer, said):
    result = ingested(answer)
    assert re.search(said, " ".join(result.notes))
    assert result.is_good


def test_an_answer_of_another_version_is_shown_as_far_as_it_goes():
    result = ingested({"more": False, "rows": 0, "tables": {"payment": {"rows": 0}}})
    assert result.lines[1].split() == ["payment", "0", "-", "-", "-", "-", "-", "-"]


def reconciliation(**changes):
    figures = counts(Findings("payment", 2152, rows_in_source=2000, rows_landed=2000))
    return {"key": "reconcile/2026-11-27.json", "tables": {"payment": figures | changes}}


def test_a_reconciliation_without_findings_is_good():
    result = reconciled(reconciliation(deleted=1, pending=1, elsewhere=1), "a-bucket")
    headings, line = (re.split("  +", each) for each in result.lines)
    assert dict(zip(headings, line, strict=True)) == {
        "table": "payment",
        "watermark": "2,152",
        "in source": "2,000",
        "landed": "2,000",
        "elsewhere": "1",
        "pending": "1",
        "missing": "0",
        "deleted": "1",
        "new tombstones": "0",
        "broken objects": "0",
    }
    assert result.is_good
    assert result.notes == [
        "No row is missing, and no object is broken. "
        "The report: s3://a-bucket/reconcile/2026-11-27.json"
    ]


@pytest.mark.parametrize("finding", ["missing", "broken_objects", "deletes_held_back"])
def test_a_reconciliation_with_findings_is_not_and_says_what_to_read(finding):
    result = reconciled(reconciliation(**{finding: 1}), "a-bucket")
    assert not result.is_good
    [note] = result.notes
    assert "s3://a-bucket/reconcile/2026-11-27.json lists them, and docs/operating.md" in note


def replay(**changes):
    done = {"table": "payment", "rows": 500, "bytes": 1000, "from_row_id": 0, "to_row_id": 500}
    done |= {"next_from_row_id": None, "contract_violations": 0, "keys": ["changes/payment/x"]}
    return {"more": False, "replay": done | changes}


def test_a_replay_is_a_line_and_its_objects():
    result = replayed(replay(), 500, "a-bucket", None)
    assert result.lines == [
        "table    rows  above  up to  bytes  broken rules",
        "payment   500      0    500  1,000             0",
    ]
    assert result.notes == ["s3://a-bucket/changes/payment/x"]
    assert result.is_good


def test_a_replay_of_nothing_says_so():
    assert replayed(replay(keys=[]), 500, "a-bucket", None).notes == ["No row has landed."]


def test_a_replay_that_ends_early_says_why_and_how_it_goes_on():
    cut = replayed(replay(to_row_id=400), 500, "a-bucket", None)
    assert "Rows above 400, the watermark," in cut.notes[-1]
    late = replayed(replay(next_from_row_id=300), 500, "a-bucket", "make replay ...")
    assert late.notes[-1].endswith("the rows that are left:\n\nmake replay ...")
    assert "watermark" not in " ".join(late.notes)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"errorType": "SourceError", "errorMessage": "No SELECT. GRANT it.", "stackTrace": []},
            "f failed: SourceError: No SELECT. GRANT it.",
        ),
        (
            {"errorType": "SourceUnavailableError", "errorMessage": "x:1 does not answer."},
            "f failed: SourceUnavailableError: x:1 does not answer. This may be over soon: "
            "call again.",
        ),
        (
            {"errorType": "Runtime.ImportModuleError", "errorMessage": "No module named 'x'"},
            "f failed: Runtime.ImportModuleError: No module named 'x'. The deployed package does "
            "not run: deploy again.",
        ),
        ({"errorMessage": "Odd"}, "f failed: Odd"),
        ("Odd", "f failed: Odd"),
    ],
    ids=["ours", "transient", "import", "without a type", "no object"],
)
def test_a_failure_is_said_with_its_remedy(answer, said):
    assert what_failed(answer, "f", INGEST) == said


@pytest.mark.parametrize(
    "answer",
    [
        {"errorType": "Sandbox.Timedout", "errorMessage": "RequestId: 1 Error: Task timed out"},
        {"errorMessage": "2026-11-27T01:02:03.456Z 1 Task timed out after 240.00 seconds"},
    ],
    ids=["today", "as it was"],
)
def test_a_call_that_took_too_long_says_what_makes_it_faster(answer):
    assert "batchRows is too high for timeoutSeconds" in what_failed(answer, "f", INGEST)
    assert "raise memorySize in" in what_failed(answer, "f", RECONCILE)


@pytest.mark.parametrize("name", ["Runtime.OutOfMemory", "Runtime.ExitError"])
def test_a_call_that_was_killed_says_which_memory_to_raise(name):
    answer = {"errorType": name, "errorMessage": "RequestId: 1 Error: signal: killed"}
    assert "raise memoryMegabytes in serverless.yml" in what_failed(answer, "f", INGEST)
    assert "raise memorySize in services/recon" in what_failed(answer, "f", RECONCILE)


@pytest.mark.parametrize(
    ("restored_from", "key", "said"),
    [
        ("version", "changes/payment/0000000001.jsonl", "is as it landed."),
        ("source", "payment/7-2024-11-11T15-03-24.jsonl", "has its rows as they are now."),
        ("source", "changes/payment/0000000001.jsonl", "make ingest TABLES=payment"),
    ],
)
def test_a_restored_object_says_what_it_is(restored_from, key, said):
    done = {"table": "payment", "key": key, "restored_from": restored_from}
    result = restored({"restore": done | {"rows": 3, "tombstones": 0}}, "a-bucket")
    assert result.lines[1].split()[:4] == ["payment", restored_from, "3", "0"]
    assert said in result.notes[0]
    assert result.notes[0].startswith(f"s3://a-bucket/{key} ")
