"""The S3 side of the change stream: its objects, and how far it is known to be complete.

A table's changes are `changes/<table>/<sequence>.jsonl`, to be applied in the order of the names.
Beside them, `latest.json` says up to which mark (see `marks`) every version has been delivered.
Any run may die anywhere, and two may work on the same table. Three facts keep the stream exact:

1.  An object is put under the number after the last one, and S3 refuses it if that exists. A run
    reads rows only once it knows the last number. So whatever lies under a number was read after
    all that lies below it existed: a row's versions come in order. A run that is refused was
    overtaken: it drops its rows, and the next run looks again.
2.  "All versions below this mark have been delivered" stays true for ever once it is true. So it
    does not matter who writes it to latest.json, when, or in which order: what is older than need
    be makes rows come again, and never makes one be missed. A run writes it when all of its objects
    have landed, or goes no further than it was.
3.  latest.json may lag behind the objects, and may be lost: the objects are listed from it on, and
    the metadata of each holds the mark from which it was read, which is a true one, too.

docs/exactness.md has the argument.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from services.ingestion import keys
from services.ingestion.marks import Mark, parse_mark
from shared.errors import StateError
from shared.telemetry import logger

if TYPE_CHECKING:
    import pandas as pd

    from shared.objects import Bucket


@dataclass(frozen=True, slots=True)
class Scan:
    """A look at a table's rows that has not come to its end.

    Attributes:
        mark: taken before it began; what is complete when it ends.
        up_to: the last id it looks at: the watermark when it began.
        above: the last id it has looked at so far.
    """

    mark: Mark
    up_to: int
    above: int = 0


@dataclass(frozen=True, slots=True)
class ChangeState:
    """How far a table's change stream is.

    Attributes:
        table: its name.
        sequence: the number of the last object, 0 if there is none.
        done: the mark up to which all versions have been delivered, None if there is none.
        scan: what was begun and is to go on.
        etag: the version of latest.json as it was read, None if there was none.
    """

    table: str
    sequence: int = 0
    done: Mark | None = None
    scan: Scan | None = None
    etag: str | None = None


def read_state(table: str, bucket: Bucket) -> ChangeState:
    """Return what the stream's latest.json says, by one request; it may lag behind.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
        StateError: it can't be understood.
    """
    key = keys.change_state_key(table)
    found = bucket.get(key)
    if found is None:
        return ChangeState(table)
    try:
        said = json.loads(found.body)
        done = said["done"] and parse_mark(said["done"])
        scan = said["scan"] and _parse_scan(said["scan"])
        return ChangeState(table, int(said["sequence"]), done, scan, found.etag)
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise StateError(
            f"s3://{bucket.name}/{key} is not what we write. Restore an older version of it, or "
            "delete it: it is rebuilt from the objects beside it."
        ) from error


def heal_state(state: ChangeState, bucket: Bucket) -> ChangeState:
    """Return how far the stream really is, given what its latest.json says."""
    folder, known = keys.change_folder(state.table), keys.change_key(state.table, state.sequence)
    numbers = [
        number
        for key in bucket.keys(folder, after=known)
        if (number := keys.parse_change_key(key)) is not None
    ]
    if not numbers:
        return state
    healed = replace(state, sequence=max(numbers))
    if state.etag is None:
        key = keys.change_key(state.table, healed.sequence)
        healed = replace(healed, done=_parse_metadata(bucket.metadata(key) or {}))
    logger().warning(
        "latest.json was behind the changes that have landed, and is mended",
        extra={"table": state.table, "sequence": state.sequence, "landed": healed.sequence},
    )
    return healed


def put_changes(
    state: ChangeState, rows: pd.DataFrame, mark: Mark, bucket: Bucket
) -> ChangeState | None:
    """Put rows into the stream.

    Args:
        state: healed before the rows were read.
        rows: every row of a stretch that has a version which is not below `state.done`.
        mark: taken before the rows were read.
        bucket: where to.

    Returns:
        The state behind the new object, or None: another run was faster.
    """
    from shared.jsonlines import to_json_lines

    body = to_json_lines(rows)
    behind = replace(state, sequence=state.sequence + 1)
    metadata = {
        "rows": str(len(rows)),
        "base": "" if state.done is None else str(state.done.base),
        "snapshot": str(mark.base),
        "history": mark.history,
    }
    created = bucket.create(keys.change_key(state.table, behind.sequence), body, metadata)
    return behind if created else None


def save_state(state: ChangeState, bucket: Bucket) -> ChangeState:
    """Write latest.json, unless another run has written it since it was read."""
    said = {
        "sequence": state.sequence,
        "done": state.done and asdict(state.done),
        "scan": state.scan and asdict(state.scan),
    }
    text = json.dumps(said, indent=4).encode()
    etag = bucket.replace(keys.change_state_key(state.table), text, state.etag)
    return replace(state, etag=etag) if etag else state


def _parse_scan(said: dict[str, Any]) -> Scan:
    return Scan(parse_mark(said["mark"]), int(said["up_to"]), int(said["above"]))


def _parse_metadata(said: Any) -> Mark | None:
    """Return the mark from which an object was read; None for one that holds every row."""
    base = said.get("base")
    return Mark(f"{base}:{base}:", said["history"], "", 0) if base else None
