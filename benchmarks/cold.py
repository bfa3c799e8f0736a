"""One tick in a process that has just begun, or the least a script would do there instead.

`python -m benchmarks.cold tick|script|pandas <folder>`; the folder holds `secret.json` and
`objects.json`. `pandas` is the script of a tick that lands rows: it imports pandas, too.
`services` and `shared` are not the checkout's, but those of the deployed zip: see `ticks.deployed`.
Imports are part of what is measured, so this module has no more than it needs.
"""

from __future__ import annotations

import json
import os
import sys
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from benchmarks.stub import Aws, Context, answer_here, configure


def tick() -> None:
    """Call the function."""
    from services.ingestion.handler import lambda_handler

    result = lambda_handler({}, Context())  # type: ignore[arg-type]
    assert not result["more"], result


def script(folder: Path, *, with_pandas: bool) -> None:
    """Import what any such function imports, make two clients and a connection."""
    import boto3
    from aws_lambda_powertools import Logger  # noqa: F401
    from aws_lambda_powertools.utilities import parameters  # noqa: F401
    from pg8000.native import Connection

    if with_pandas:
        import pandas as pd  # noqa: F401

    clients = boto3.client("s3"), boto3.client("secretsmanager")
    secret = json.loads((folder / "secret.json").read_text())
    socket = f"{secret['host']}/.s.PGSQL.{secret['port']}"
    connection = Connection(
        secret["username"],
        password=secret["password"],
        database=secret["dbname"],
        unix_sock=socket,
    )
    connection.close()
    assert clients


def main(what: str, folder: Path) -> None:
    """Do the one or the other."""
    objects = json.loads((folder / "objects.json").read_text())
    bodies = {path: body.encode() for path, body in objects.items()}
    secret = json.loads((folder / "secret.json").read_text())
    answer_here(Aws(secret, bodies))
    configure()
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        tick() if what == "tick" else script(folder, with_pandas=what == "pandas")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
