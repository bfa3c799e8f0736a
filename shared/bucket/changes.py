"""The S3 side of the change stream: its objects, and how far it is known to be complete.

A table's changes are `changes/<table>/<number>.jsonl`, to be applied in the order of the names.
Beside them, `latest.json` says up to which mark (see `shared.snapshot`) every row version has been
delivered. A run may crash anywhere, and two runs may overlap. Three facts keep the stream exact:

1.  An object is put under the number after the last one, and S3 refuses a number that exists. A run
    reads rows only once it knows the last number. So the rows under a number were read after every
    object with a smaller number existed: a row's versions are in order. A run whose PUT is refused
    was overtaken: it drops its rows, and the next run scans again.
2.  Once it is true, "all versions below this mark have been delivered" stays true for ever. So it
    does not matter which run writes it to latest.json, when, or in which order: with a mark that is
    older than necessary, versions are delivered again, but none is missed. A run writes its own
    mark once all of its objects have landed; otherwise it leaves the mark as it was.
3.  latest.json may lag behind the objects, or be lost. The objects behind it are listed, and the
    metadata of each holds the mark below which all versions had been delivered before its scan.

docs/exactness.md has the argument.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from shared.bucket import keys
from shared.bucket.pointer import get_pointer, move_pointer
from shared.declaration import UNKNOWN, digest
from shared.snapshot import Mark, parse_mark
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.bucket.bucket import Bucket, Landed
    from shared.bucket.pointer import Pointer
    from shared.lines import Lines
    from shared.tables import Table


@dataclass(frozen=True, slots=True)
class Scan:
    """A scan of a table's rows that has not ended.

    Attributes:
        mark: taken before the scan began; the stream is complete up to it when the scan ends.
        up_to: the last id to scan: the watermark when the scan began.
        above: the last id scanned so far.
    """

    mark: Mark
    up_to: int
    above: int = 0


@dataclass(frozen=True, slots=True)
class ChangeLatest:
    """The content of a change stream's `latest.json`; see `ChangeState` for its fields."""

    number: int = 0
    done: Mark | None = None
    scan: Scan | None = None

    def content(self) -> dict[str, Any]:
        """Return what the file holds."""
        return {
            "sequence": self.number,
            "done": self.done and asdict(self.done),
            "scan": self.scan and asdict(self.scan),
        }


@dataclass(frozen=True, slots=True)
class ChangeState:
    """How far a table's change stream has come.

    Attributes:
        table: the table.
        pointer: the stream's `latest.json` as it was read.
        number: the number of the last object, 0 if there is none.
        done: the mark up to which all versions have been delivered, None if there is none.
        scan: the unfinished scan to continue, None if there is none.
    """

    table: Table
    pointer: Pointer[ChangeLatest]
    number: int = 0
    done: Mark | None = None
    scan: Scan | None = None


def get_change_state(table: Table, bucket: Bucket) -> ChangeState:
    """Return the state in the stream's `latest.json`, by one request; it may lag behind.

    Raises:
        LandingError, LandingUnavailableError, StateError: see `get_pointer`.
    """
    pointer = get_pointer(keys.format_change_latest_key(table), _parse_latest, bucket)
    latest = pointer.value or ChangeLatest()
    return ChangeState(table, pointer, latest.number, latest.done, latest.scan)


def heal_change_state(state: ChangeState, bucket: Bucket) -> ChangeState:
    """Return the true state of the stream, given the one in its `latest.json`.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    number = find_last_number(state, bucket)
    if number == state.number:
        return state
    healed = replace(state, number=number)
    if state.pointer.value is None:
        key = keys.format_change_key(state.table, healed.number)
        healed = replace(healed, done=_parse_metadata(bucket.metadata(key) or {}))
    logger().warning(
        "latest.json lagged behind the changes that have landed; this run repairs it",
        extra={"table": state.table.name, "number": state.number, "landed": number},
    )
    return healed


def find_last_number(state: ChangeState, bucket: Bucket) -> int:
    """Return the number of the stream's last object; it is not below that of the state.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    known = keys.format_change_key(state.table, state.number)
    behind = bucket.keys(keys.change_folder(state.table), after=known)
    numbers = (keys.parse_change_key(key).number for key in filter(keys.is_change_key, behind))
    return max(numbers, default=state.number)


def save_change_state(state: ChangeState, bucket: Bucket) -> ChangeState:
    """Write `latest.json`, unless another run has written it since it was read.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    latest = ChangeLatest(state.number, state.done, state.scan)
    moved = move_pointer(state.pointer, latest, bucket)
    return replace(state, pointer=moved) if moved else state


def forget_declaration(state: ChangeState, bucket: Bucket) -> ChangeState | None:
    """Let every scan compare all lines with those that have landed, until one has ended.

    Returns:
        The state with its latest.json written; None if somebody else has written it meanwhile.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    if state.done is None:
        return state
    forgotten = replace(state, done=replace(state.done, declared=UNKNOWN), scan=None)
    saved = save_change_state(forgotten, bucket)
    return None if saved is forgotten else saved


def put_changes(
    state: ChangeState, lines: Lines, mark: Mark, bucket: Bucket
) -> tuple[ChangeState, Landed] | None:
    """Put rows into the stream as its next object.

    Args:
        state: healed before the rows were read.
        lines: all rows of a stretch whose version is not below `state.done`; outside of a scan,
            what `additions` says.
        mark: taken before the rows were read.
        bucket: the bucket to write to.

    Returns:
        The new state, and the object; None if another run was faster.

    Raises:
        LandingError, LandingUnavailableError: S3 refuses, or fails.
    """
    number = state.number + 1
    landed = bucket.put_rows(
        keys.format_change_key(state.table, number),
        lines,
        base="" if state.done is None else str(state.done.xmin),
        snapshot=str(mark.xmin),
        history=mark.history,
        declared="" if state.done is None else digest(state.done.declared),
    )
    return (replace(state, number=number), landed) if landed else None


def _parse_latest(content: Any) -> ChangeLatest:
    scan = content["scan"]
    return ChangeLatest(
        int(content["sequence"]),
        content["done"] and parse_mark(content["done"]),
        scan and Scan(parse_mark(scan["mark"]), int(scan["up_to"]), int(scan["above"])),
    )


def _parse_metadata(metadata: Mapping[str, str]) -> Mark | None:
    """Return the mark from which an object's scan began; None if that scan delivered every row."""
    xmin = metadata.get("base")
    if not xmin:
        return None
    declared = metadata.get("declared", "")  # objects of earlier releases have none
    return Mark(f"{xmin}:{xmin}:", metadata["history"], "", 0, declared)
