"""Restores: an object that was deleted lands again under its own key.

The bucket keeps versions, and nothing overwrites what has landed. So the oldest version is the one
that landed, and it is put back as it was. If none is left, it depends on the object:

-   A batch lands as one does that a run claimed and did not land: its claim says which rows. They
    are read as they are now, which is exact: whatever is newer than the mark that is done comes in
    the change stream, too, behind all that it holds of these rows by now.
-   What an object of the change stream held is not known. Under its number comes an object without
    lines, so that readers go on. The next scan compares all lines with those that have landed, and
    so delivers what was lost.

Either may have held rows that were deleted since, and somebody may have read them. Nobody knows
their ids any more, so all ids without a row get a tombstone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING, Any

from services.ingestion.claimed import land_claimed, temporary_file
from services.ingestion.replays import open_additions
from shared.bucket import keys
from shared.bucket.bucket import Bucket, Landed
from shared.bucket.changes import find_last_number, forget_declaration, get_change_state
from shared.bucket.claims import find_claim, get_claim
from shared.bucket.position import find_position
from shared.contracts.check import Inspector
from shared.contracts.contract import personal_data
from shared.errors import EventError, StateError
from shared.lines import NO_LINES, tombstones
from shared.postgres.absent import read_absent
from shared.tables import TABLES, Table
from shared.telemetry import logger

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    from shared.personal import PersonalData

# If more ids have no row, they are sparse, and no tombstones are put: most were never used.
_MOST_ABSENT = 100_000
_CHUNK_BYTES = 1_000_000


@dataclass(frozen=True, slots=True)
class LostObject:
    """An object to restore: its table, and its key."""

    table: str
    key: str


def requested_object(event: dict[str, Any]) -> LostObject:
    """Return the object that an event asks to restore.

    Raises:
        EventError: the event names no known table, or no key of an object of its two streams.
    """
    asked = event["restore"]
    if len(event) > 1 or not isinstance(asked, dict) or asked.keys() != {"table", "key"}:
        raise EventError(
            'To restore an object, the event must be {"restore": {"table": "payment", "key": '
            '"payment/1526-2024-11-11T15-03-24.jsonl"}}.'
        )
    name, key = asked["table"], asked["key"]
    if name not in TABLES:
        raise EventError(f"Unknown table: {name!r}. The tables are {', '.join(TABLES)}.")
    if not isinstance(key, str) or not _is_of(Table(name), key):
        raise EventError(
            f"{key!r} is not the key of an object of {name!r}, like "
            f"{name}/1526-2024-11-11T15-03-24.jsonl, changes/{name}/0000000001.jsonl or "
            f"claims/{name}/1491.json. A latest.json needs no restoring: the next run rebuilds it."
        )
    return LostObject(name, key)


def restore(
    lost: LostObject,
    client: S3Client,
    connection: Connection,
    bucket_name: str,
    *,
    with_changes: bool = True,
    hash_key: str | None = None,
) -> dict[str, Any]:
    """Land an object again that is missing in the bucket.

    Args:
        lost: the object.
        client: boto3 client of S3.
        connection: a session of the database, in autocommit.
        bucket_name: the bucket that it was in.
        with_changes: whether the table has a change stream.
        hash_key: the key of the hashes that land in place of personal data.

    Returns:
        `key`; `restored_from`: `version` if its oldest version was put back, else `source`; `rows`,
        how many lines it has; `tombstones`, how many ids the change stream says are gone.

    Raises:
        EventError: it is there; it can't be restored; or a run has to come first.
        ConfigError, SourceError, SourceUnavailableError: see `get_table_data`.
        LandingError, LandingUnavailableError, StateError: see `get_latest_id`.
    """
    table, bucket = Table(lost.table), Bucket(client, bucket_name)
    restoring = _Restore(table, lost.key, bucket, connection, personal_data(table, hash_key))
    restoring.refuse_existing()
    if not restoring.from_version():
        if keys.is_claim_key(lost.key):
            raise EventError(
                f"No version of {lost.key} is left. Put it back by hand: its content is "
                '{"key": "..."}, with the key of the object that ends where the next claim begins.'
            )
        if keys.is_change_key(lost.key):
            restoring.change(with_changes=with_changes)
        else:
            restoring.batch(with_changes=with_changes)
    logger().info("Object restored", extra=restoring.summary)
    return restoring.summary


class _Restore:
    """The restoring of one object; it was refused if the key exists when it is written."""

    def __init__(
        self,
        table: Table,
        key: str,
        bucket: Bucket,
        connection: Connection,
        personal: PersonalData,
    ) -> None:
        self._table, self._key, self._bucket, self._connection = table, key, bucket, connection
        self._personal = personal
        self.summary: dict[str, Any] = {
            "table": table.name,
            "key": key,
            "restored_from": "source",
            "rows": 0,
            "tombstones": 0,
        }

    def refuse_existing(self) -> None:
        if self._bucket.metadata(self._key) is not None:
            raise EventError(
                f"s3://{self._bucket.name}/{self._key} is there, and nothing overwrites an object. "
                "If it was altered, delete it, which keeps its versions: aws s3api delete-object "
                f"--bucket {self._bucket.name} --key {self._key}. Then restore it."
            )

    def from_version(self) -> bool:
        """Put the oldest version back; tell whether there was a sound one."""
        with temporary_file(self._table, self._key) as file:
            metadata = self._bucket.copy_first_version(self._key, file)
            rows = metadata.get("rows") if metadata else None
            if metadata is None or rows not in {None, str(_count_lines(file))}:
                return False
            file.seek(0)
            self._created(is_new=self._bucket.create(self._key, file, metadata))
        self.summary |= {"restored_from": "version", "rows": int(rows or 0)}
        return True

    def batch(self, *, with_changes: bool) -> None:
        """Land a batch from the source: the rows that its claim says."""
        last = keys.parse_data_key(self._key).row_id
        above = find_claim(self._table, last, self._bucket)
        if above is None or get_claim(self._table, above, self._bucket) != self._key:
            raise StateError(
                f"No claim names {self._key}. If it was claimed, restore its claim first: the one "
                f"in {keys.claim_folder(self._table)} with the highest id below {last}."
            )
        if with_changes:
            self._bury(above, last)
        landed = land_claimed(
            self._table,
            above,
            self._key,
            self._connection,
            self._bucket,
            inspector=Inspector(self._table),
            personal=self._personal,
        )
        self._landed(landed)

    def change(self, *, with_changes: bool) -> None:
        """Let readers go on where an object of the change stream was, and deliver what it held."""
        number = keys.parse_change_key(self._key).number
        state = get_change_state(self._table, self._bucket)
        last = find_last_number(state, self._bucket)
        if not with_changes or number > last:
            raise EventError(f"{self._key} was never there: the stream ends at number {last}.")
        self._bury()
        self._forget_declaration()
        metadata = {"base": "", "snapshot": "", "history": ""}
        self._landed(self._bucket.put_rows(self._key, NO_LINES, **metadata))

    def _bury(self, above: int = 0, up_to: int | None = None) -> None:
        """Say of the ids of a range, or of all that landed, which have no row."""
        front = find_position(self._table, self._bucket).row_id
        up_to = front if up_to is None else min(up_to, front)
        additions = open_additions(self._table, self._bucket, self._connection, self._personal)
        while True:
            absent = read_absent(self._table, above, up_to, self._connection, _MOST_ABSENT)
            if absent is None:
                logger().warning(
                    "Too many ids have no row to say of each that it is gone. Whoever read rows of "
                    "this object that were deleted since has to read the table from the start",
                    extra={"table": self._table.name, "key": self._key},
                )
            if not absent:
                return
            if additions.put(tombstones(absent, self._table)):
                additions.save()
                self.summary["tombstones"] = len(absent)
                return
            additions.catch_up()

    def _forget_declaration(self) -> None:
        """Let the next scan compare all lines; one that is under way can't save its mark then."""
        while True:
            state = get_change_state(self._table, self._bucket)
            healed = replace(state, number=find_last_number(state, self._bucket))
            if forget_declaration(healed, self._bucket):
                return

    def _landed(self, landed: Landed | None) -> None:
        self._created(is_new=landed is not None)
        self.summary["rows"] = landed.rows if landed else 0

    def _created(self, *, is_new: bool) -> None:
        if not is_new:
            self.refuse_existing()


def _count_lines(file: IO[bytes]) -> int:
    file.seek(0)
    return sum(chunk.count(b"\n") for chunk in iter(partial(file.read, _CHUNK_BYTES), b""))


def _is_of(table: Table, key: str) -> bool:
    if keys.is_claim_key(key):
        return keys.parse_claim_key(key).table == table
    if keys.is_change_key(key):
        return keys.parse_change_key(key).table == table
    return keys.is_data_key(key) and keys.parse_data_key(key).table == table
