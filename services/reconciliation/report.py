"""The report of a reconciliation: log lines, and an object with the ids."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np

from shared import telemetry
from shared.bucket import keys

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from services.reconciliation.findings import Findings
    from services.reconciliation.ids import Ids
    from shared.bucket.bucket import Bucket
    from shared.errors import PipelineError

_LISTED = 1000  # ranges of ids, and faults, in the object for each table
_LOGGED = 10  # ids in a log line


def counts(findings: Findings) -> dict[str, int]:
    """Return a table's figures."""
    return {
        "watermark": findings.watermark,
        "rows_in_source": findings.rows_in_source,
        "rows_landed": findings.rows_landed,
        "elsewhere": findings.elsewhere,
        "pending": findings.pending,
        "missing": len(findings.missing) + findings.without_id,
        "deleted": len(findings.deleted),
        "new_tombstones": findings.buried,
        "deletes_held_back": findings.held_back,
        "brought": findings.brought,
        "rows_proved": findings.proved,
        "differing": len(findings.differing),
        "proof_days_behind": findings.days_behind,
        "broken_objects": len({fault.key for fault in findings.faults}),
    }


def log(findings: Findings) -> None:
    """Log a table's figures, and a line for each thing that is wrong."""
    logger = telemetry.logger()
    table: dict[str, Any] = {"table": findings.table}
    figures = counts(findings) | {"duration_ms": round(findings.seconds * 1000)}
    logger.info("Table reconciled", extra=table | figures)
    for fault in findings.faults[:_LISTED]:
        logger.error(
            "An object is not as it landed. Restore it by `make restore`, see docs/operating.md",
            extra=table | {"alarm": "objects-broken", "key": fault.key, "fault": fault.what},
        )
    if len(findings.missing):
        logger.error(
            "Rows of the source have not landed. Replay them by `make replay`, unless they were "
            "brought; see docs/operating.md",
            extra=table | {"alarm": "rows-missing"} | _some("missing", findings.missing),
        )
    if findings.without_id:
        logger.error(
            "Rows of the source have no id, so they can't land. Give them one, and the column NOT "
            "NULL",
            extra=table | {"alarm": "rows-missing", "missing": findings.without_id},
        )
    if len(findings.differing):
        logger.error(
            "Rows of the source are not as they landed. Find out what was altered, then replay "
            "them by `make replay`, see docs/operating.md",
            extra=table
            | {"alarm": "rows-differ", "columns": list(findings.differing_columns)}
            | _some("differing", findings.differing),
        )
    if findings.days_behind:
        logger.warning(
            "There was no time to prove all values in their turn; the next nights continue",
            extra=table | {"proof_days_behind": findings.days_behind},
        )
    if findings.unproved:
        logger.info("Values were not proved", extra=table | {"why": findings.unproved})
    if findings.pending:
        logger.warning(
            "Rows wait for the change stream, or were deleted during the reconciliation",
            extra=table | {"pending": findings.pending},
        )
    if findings.brought:
        logger.warning(
            "Rows that no scan would deliver are in the change stream now: they were missing, or "
            "their partition was detached and attached again",
            extra=table | {"brought": findings.brought},
        )
    _log_deletes(findings)


def _log_deletes(findings: Findings) -> None:
    logger = telemetry.logger()
    table = {"table": findings.table} | _some("deleted", findings.deleted)
    if not len(findings.deleted):
        return
    if findings.held_back:
        logger.error(
            f"Deletes are not passed on. {findings.objection}",
            extra=table | {"alarm": "deletes-held-back"},
        )
    elif findings.buried:
        logger.info(
            "Rows that landed were deleted from the source; their tombstones are in the change "
            "stream",
            extra=table | {"new_tombstones": findings.buried},
        )
    else:
        logger.warning("Rows that landed were deleted from the source", extra=table)


def write(
    found: Sequence[Findings],
    failures: Mapping[str, PipelineError],
    date: str,
    bucket: Bucket,
) -> str:
    """Write what was found into the day's report; return its key.

    Of tables that were not looked at now, it keeps what an earlier call on the same day has found.

    Raises:
        LandingError, LandingUnavailableError: see `Bucket`.
    """
    key = keys.format_report_key(date)
    tables = {findings.table: _described(findings) for findings in found}
    failed = {table: f"{type(error).__name__}: {error}" for table, error in failures.items()}
    earlier = bucket.get(key)
    said = json.loads(earlier.body) if earlier else {"tables": {}, "failed": {}}
    for part, now in (("tables", tables), ("failed", failed)):
        kept = {name: said[part][name] for name in said[part] if name not in {*tables, *failed}}
        now.update(kept)
    body = json.dumps({"date": date, "tables": tables, "failed": failed}, indent=1).encode()
    bucket.overwrite(key, body)
    return key


def ranges(ids: Ids) -> list[list[int]]:
    """Return ids as ranges of first and last, ascending, each id once.

    >>> ranges(np.array([1, 2, 3, 7]))
    [[1, 3], [7, 7]]
    """
    found: list[list[int]] = _ranges(ids).tolist()
    return found


def _ranges(ids: Ids) -> np.ndarray[tuple[int, int], np.dtype[np.int64]]:
    """Return what `ranges` does as an array: there may be as many ranges as ids."""
    ids = np.unique(ids)
    breaks = np.flatnonzero(np.diff(ids) != 1)
    last = len(ids) - 1
    ends = np.concatenate((breaks, [last] if len(ids) else [])).astype(int)
    starts = np.concatenate(([0] if len(ids) else [], breaks + 1)).astype(int)
    return np.column_stack((ids[starts], ids[ends]))


def _some(name: str, ids: Ids) -> dict[str, Any]:
    return {name: len(ids), "first_ids": ids[:_LOGGED].tolist()}


def _described(findings: Findings) -> dict[str, Any]:
    missing, deleted = _ranges(findings.missing), _ranges(findings.deleted)
    differing = _ranges(findings.differing)
    return counts(findings) | {
        "missing_ids": missing[:_LISTED].tolist(),
        "deleted_ids": deleted[:_LISTED].tolist(),
        "differing_ids": differing[:_LISTED].tolist(),
        "differing_columns": list(findings.differing_columns),
        "values_not_proved": findings.unproved,
        "faults": [fault._asdict() for fault in findings.faults[:_LISTED]],
        "is_cut": max(len(each) for each in (missing, deleted, differing, findings.faults))
        > _LISTED,
    }
