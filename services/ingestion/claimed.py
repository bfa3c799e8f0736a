"""How a batch lands that was claimed before: in little memory, whatever it holds by now.

A claim can't be taken back, and its rows may have grown since it was made. So they are read in
parts, whose lines go to a file, and the file is what one PUT creates. If the process dies, nothing
of the file is left. docs/exactness.md says why it does not matter who lands the batch.
"""

from __future__ import annotations

import errno
from contextlib import contextmanager
from tempfile import TemporaryFile
from typing import IO, TYPE_CHECKING

from shared.bucket import keys
from shared.bucket.bucket import MOST_BYTES
from shared.errors import ConfigError, LandingError
from shared.jsonlines import render
from shared.postgres.reader import read_settled_parts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pg8000.native import Connection

    from shared.bucket.bucket import Bucket, Landed
    from shared.contracts.check import Inspector
    from shared.personal import PersonalData
    from shared.tables import Table


def land_claimed(
    table: Table,
    above: int,
    key: str,
    connection: Connection,
    bucket: Bucket,
    *,
    inspector: Inspector,
    personal: PersonalData,
) -> Landed | None:
    """Land a claimed batch: its rows as they are now, none if all were deleted since.

    Args:
        table: the table.
        above: the id that the claim begins above.
        key: the key that it holds, which ends with the batch's last id.
        connection: a session in autocommit, on a primary.
        bucket: where the claim is.
        inspector: checks the rows against the table's contract before they land.
        personal: the table's personal data.

    Returns:
        The object; None if it exists, which is asked before anything is read, and again by the PUT.

    Raises:
        ConfigError: the function's storage is too small for the rows.
        LandingError: the rows are more than S3 takes at once; or S3 refuses.
        LandingUnavailableError: S3 fails, is overloaded or can't be reached.
        SourceError, SourceUnavailableError: see `read_settled_rows`.
        TypeError: a value has no exact JSON form.
    """
    if bucket.metadata(key) is not None:
        return None
    last = keys.parse_data_key(key).row_id
    with temporary_file(table, key) as file:
        rows = 0
        for part in read_settled_parts(table, above, last, connection, personal=personal):
            inspector.inspect(part)
            lines = render(part.rows)
            file.write(lines.body)
            rows += lines.rows
            if file.tell() > MOST_BYTES:
                raise _too_large(table, above, key)
        return bucket.put_file(key, rows, file)


@contextmanager
def temporary_file(table: Table, key: str) -> Iterator[IO[bytes]]:
    """Open a file for what lands under a key; it has no name, and is gone at the end of the block.

    Raises:
        ConfigError: the function's storage is full.
    """
    try:
        with TemporaryFile() as file:
            yield file
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise ConfigError(
            f"{key} of {table.name!r} does not fit into the function's temporary storage. Raise "
            "storageMegabytes in serverless.yml, and deploy."
        ) from error


def _too_large(table: Table, above: int, key: str) -> LandingError:
    claim = keys.format_claim_key(table, above)
    return LandingError(
        f"The rows of {table.name!r} that {claim} covers have grown to more than the 5 GB that S3 "
        f"takes at once, so {key} can't land. Shorten their longest values until a run has landed "
        "them, and put them back then: changes of rows that have landed go into the change stream."
    )
