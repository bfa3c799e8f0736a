"""Our ways to load a table, each in a process of its own, as a racer.

`python -m benchmarks.load <way> <secret>`, the secret as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.answering import answer
from benchmarks.stub import Aws, answer_here, configure

if TYPE_CHECKING:
    from collections.abc import Callable

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

    type Load = Callable[[str, Connection, S3Client], int]  # returns how many rows landed


def ours(table: str, connection: Connection, client: S3Client) -> int:
    """Land what is new in the table; its change stream begins with it."""
    from services.ingestion import ingest

    rows: int = ingest([table], client, connection, "benchmark")["rows"]
    return rows


def without_contracts() -> Load:
    """Let no table have a contract."""
    from shared.contracts import contract

    contract.FOLDER = Path(tempfile.gettempdir()) / "no contracts are here"
    return ours


def literal(table: str, connection: Connection, client: S3Client) -> int:
    """Take the specification by its words: one query, one DataFrame, one object."""
    import pandas as pd

    found = connection.run(f"SELECT * FROM {table} WHERE {table}_id > 0 ORDER BY {table}_id")
    names = [column["name"] for column in connection.columns or []]
    frame = pd.DataFrame(found, columns=names)
    body = frame.to_json(orient="records", lines=True, date_format="iso", default_handler=str)
    client.put_object(Bucket="benchmark", Key=f"{table}/1.jsonl", Body=body)
    return len(frame)


def one_by_one() -> Load:
    """Read no batch before the one before it has landed."""
    from services.ingestion.read_ahead import Reader

    setattr(Reader, "reading_ahead", lambda *_: nullcontext())  # noqa: B010
    return ours


def main(way: str, secret: str) -> None:
    """Race: `ours`, or one of these.

    The same `sent` to an S3 outside of this process, `bare`, to a `paced` S3, to it `one-by-one`,
    or `literal`.
    """
    configure()
    aws = Aws(json.loads(secret), is_paced=way in {"paced", "one-by-one"})
    if way != "sent":
        answer_here(aws)
    from shared.clients import s3_client
    from shared.postgres.credentials import Credentials
    from shared.postgres.session import connect

    special = {"literal": lambda: literal, "bare": without_contracts, "one-by-one": one_by_one}
    load = special.get(way, lambda: ours)()
    import services.ingestion.table  # it is imported late: a cold start's cost, see `ticks`

    assert services.ingestion.table
    client = s3_client()
    credentials = Credentials.from_secret("benchmark", secret)
    with connect(credentials, Path("none"), 600) as connection:

        def write(table: str, id_column: str, file: str) -> int:  # noqa: ARG001
            aws.keeps_rows = Path(file).is_file()
            rows = load(table, connection, client)
            if aws.keeps_rows:
                Path(file).write_bytes(aws.landed(table))
            return rows

        answer(write)


if __name__ == "__main__":
    main(*sys.argv[1:])
