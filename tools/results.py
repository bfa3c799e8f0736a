"""What a call of a function answered, as people read it: a table, notes, or what failed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from local.console import table
from shared import errors
from shared.errors import PipelineError
from tools.stages import INGEST, RECONCILE

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNKNOWN = "-"
# The columns of each table, and where the answer has their values.
_INGESTED: Final = {
    "table": "table",
    "rows": "rows",
    "watermark": "latest_row_id",
    "held back": "held_back_rows",
    "changes": "changes",
    "broken rules": "contract_violations",
    "ms": "duration_ms",
    "last batch": "key",
}
_RECONCILED: Final = {
    "table": "table",
    "watermark": "watermark",
    "in source": "rows_in_source",
    "landed": "rows_landed",
    "elsewhere": "elsewhere",
    "pending": "pending",
    "missing": "missing",
    "deleted": "deleted",
    "new tombstones": "new_tombstones",
    "broken objects": "broken_objects",
}
_REPLAYED: Final = {
    "table": "table",
    "rows": "rows",
    "above": "from_row_id",
    "up to": "to_row_id",
    "bytes": "bytes",
    "broken rules": "contract_violations",
}
_RESTORED: Final = {
    "table": "table",
    "restored from": "restored_from",
    "rows": "rows",
    "tombstones": "tombstones",
    "object": "key",
}
_LOADED: Final = {
    "table": "table",
    "batches": "planned",
    "by workers": "batches",
    "rows by workers": "rows",
    "failed workers": "failed",
    "rows of the last run": "run_rows",
    "changes": "changes",
    "watermark": "latest_row_id",
    "held back": "held_back_rows",
}
_BAD: Final = ("missing", "broken_objects", "deletes_held_back")
_WORDS: Final = {"table", "last batch", "restored from", "object"}

_BROKEN_RULES: Final = (
    "Rows broke their contract, and landed all the same: the ERROR lines in the log say which."
)
# By the function: what to do if Lambda ends a call for lack of memory, or of time.
_MEMORY: Final = {
    INGEST: "raise memoryMegabytes in serverless.yml, and deploy",
    RECONCILE: "raise memorySize in services/reconciliation/functions.yml, and deploy",
}
_TIME: Final = {
    INGEST: "What has landed stays, and calling again is safe. The log lines say how long each "
    "table took: the database is slow, or batchRows is too high for timeoutSeconds",
    RECONCILE: "A call can't have more time, but it can be faster: raise memorySize in "
    "services/reconciliation/functions.yml, and deploy",
}


@dataclass(frozen=True, slots=True)
class Result:
    """What a call that did not fail has done.

    Attributes:
        lines: a table; the first line has the headings.
        notes: what else there is to say.
        is_good: whether nothing was found that somebody has to look after.
    """

    lines: Sequence[str]
    notes: Sequence[str] = field(default_factory=list)
    is_good: bool = True


def ingested(answer: Mapping[str, Any]) -> Result:
    """Return what a run has landed."""
    rows = _by_table(answer)
    changes = sum(row.get("changes") or 0 for row in rows)
    notes = [f"Landed: {answer['rows']:,} new rows, {changes:,} changes."]
    if any(row.get("contract_violations") for row in rows):
        notes.append(_BROKEN_RULES)
    if any(row.get("held_back_rows") for row in rows):
        notes.append(
            "Rows are held back while a transaction is open that may fill a gap below them: the "
            "WARNING lines in the log name it. A run after its end lands them."
        )
    if answer["more"]:
        notes.append(
            "A backlog is left, because the call's time was up. The next tick continues with it, "
            "and so does another call."
        )
    return Result(_lines(_INGESTED, rows), notes)


def reconciled(answer: Mapping[str, Any], bucket_name: str) -> Result:
    """Return what a reconciliation has found."""
    rows = _by_table(answer)
    report = f"s3://{bucket_name}/{answer['key']}"
    is_good = not any(row.get(name) for row in rows for name in _BAD)
    note = (
        f"No row is missing, and no object is broken. The report: {report}"
        if is_good
        else "Rows are missing, objects are broken, or deletes are held back: "
        f"{report} lists them, and docs/operating.md says what to do, under Reconciliation "
        "findings."
    )
    return Result(_lines(_RECONCILED, rows), [note], is_good)


def replayed(
    answer: Mapping[str, Any], to_row_id: int, bucket_name: str, continuation: str | None
) -> Result:
    """Return what a replay has landed.

    Args:
        answer: of the function.
        to_row_id: up to where the replay was asked for.
        bucket_name: the stage's.
        continuation: the command that replays what is left, if time was up.
    """
    done = answer["replay"]
    notes = ["\n".join(f"s3://{bucket_name}/{key}" for key in done["keys"]) or "No row has landed."]
    if done["contract_violations"]:
        notes.append(_BROKEN_RULES)
    if done["to_row_id"] < to_row_id:
        notes.append(
            f"Rows above {done['to_row_id']}, the watermark, have not landed for the first time "
            "yet: a replay ends there."
        )
    if continuation:
        notes.append(f"The call's time was up. To replay the rows that are left:\n\n{continuation}")
    return Result(_lines(_REPLAYED, [done]), notes)


def restored(answer: Mapping[str, Any], bucket_name: str) -> Result:
    """Return how an object was restored."""
    done = answer["restore"]
    note = f"s3://{bucket_name}/{done['key']}"
    if done["restored_from"] == "version":
        note += " is as it landed."
    elif done["key"].startswith("changes/"):
        note += (
            " has no lines, so that readers go on. The next run delivers what it held: make ingest "
            f"TABLES={done['table']}"
        )
    else:
        note += " has its rows as they are now. The change stream has what changed meanwhile."
    return Result(_lines(_RESTORED, [done]), [note])


def loaded(output: Mapping[str, Any], planned: int) -> Result:
    """Return what a load that succeeded has landed, and the run at its end.

    Args:
        output: of the load.
        planned: how many batches it had to land; so many have landed.
    """
    run = output["run"]["tables"][output["table"]]
    rows, batches = output["rows"], output["batches"]
    notes = [f"Landed: {rows:,} rows in {batches:,} batches."]
    if batches != planned:  # how many rows the others have, nobody has counted
        notes = [
            f"Landed: {planned:,} batches. Its workers landed {batches:,} of them, with {rows:,} "
            "rows; the others were landed by runs, or by calls of workers that failed later."
        ]
    if output["failed"]:
        notes.append(
            f"{output['failed']} workers failed. What they left was landed by runs; the ERROR and "
            "WARNING lines in the log say why they failed."
        )
    if output["run"]["more"]:
        notes.append(
            "A backlog is left, of rows that came while the load was under way, or of changes. The "
            "next tick continues with it."
        )
    said = run | output | {"planned": planned, "run_rows": run["rows"]}
    return Result(_lines(_LOADED, [said]), notes)


def what_failed(answer: object, function_name: str, function: str) -> str:
    """Return why a call failed, and what to do.

    Args:
        answer: what Lambda says of the error. Errors of the service say themselves what to do.
        function_name: in Lambda.
        function: INGEST or RECONCILE.
    """
    said = answer if isinstance(answer, dict) else {"errorMessage": str(answer)}
    name, message = said.get("errorType", ""), said.get("errorMessage", "")
    text = f"{function_name} failed: " + ": ".join(filter(None, [name, message]))
    if name == "Sandbox.Timedout" or "Task timed out" in message:
        return f"{text}. {_TIME[function]}."
    if name in {"Runtime.OutOfMemory", "Runtime.ExitError"} or "signal: killed" in message:
        return f"{text}. It probably lacked memory: {_MEMORY[function]}."
    if name.startswith("Runtime."):
        return f"{text}. The deployed package does not run: deploy again."
    error = getattr(errors, name, None)
    return f"{text} This may be over soon: call again." if _is_transient(error) else text


def _is_transient(error: object) -> bool:
    """Tell whether the state machine would call again."""
    return isinstance(error, type) and issubclass(error, PipelineError) and error.transient


def _by_table(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [{"table": name} | row for name, row in answer["tables"].items()]


def _lines(columns: Mapping[str, str], rows: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [[_cell(row.get(name)) for name in columns.values()] for row in rows]
    words = [number for number, title in enumerate(columns) if title in _WORDS]
    return table(list(columns), cells, words)


def _cell(value: object) -> str:
    if value is None:
        return _UNKNOWN
    return f"{value:,}" if isinstance(value, int) else str(value)
