"""One way to load the sales orders, in a process of its own: `python -m benchmarks.load <way>`.

Prints its cost as JSON. `ours`: the run, in batches. `literal`: what the specification says when it
is taken by its words, one query, one DataFrame, one object. The rows go to a stub of S3.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.stub import Aws, answer_here, configure

if TYPE_CHECKING:
    from pg8000.native import Connection

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """What one way of doing it took.

    Attributes:
        seconds: of the wall clock.
        cpu_seconds: of the process.
        server_seconds: of the processor in the backend.
        peak_megabytes: of the process.
    """

    seconds: float
    cpu_seconds: float
    server_seconds: float
    peak_megabytes: float


def backend_seconds(stat: str) -> float:
    """Return the processor time in a line of /proc/<pid>/stat."""
    fields = stat.rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def ours(connection: Connection) -> int:
    """Land the table, without its change stream: nothing has changed."""
    import boto3

    from services.ingestion.ingest import Limits, ingest

    limits = Limits(without_changes=["sales_order"])
    rows: int = ingest(["sales_order"], boto3.client("s3"), connection, "benchmark", limits)["rows"]
    return rows


def literal(connection: Connection) -> int:
    """Read all rows, make a DataFrame of them, and write it."""
    import boto3
    import pandas as pd

    found = connection.run("SELECT * FROM sales_order WHERE sales_order_id > 0 ORDER BY 1")
    names = [column["name"] for column in connection.columns or []]
    frame = pd.DataFrame(found, columns=names)
    body = frame.to_json(orient="records", lines=True, date_format="iso", default_handler=str)
    boto3.client("s3").put_object(Bucket="benchmark", Key="sales_order/1.jsonl", Body=body)
    return len(frame)


def main(way: str, secret: dict[str, Any]) -> None:
    """Load, and print what it took."""
    configure()
    answer_here(Aws(secret))
    from shared.database import connect
    from shared.settings import Credentials

    credentials = Credentials.from_secret("benchmark", json.dumps(secret))
    import pandas as pd  # a cold start's cost, see `ticks`

    assert pd.__version__
    with connect(credentials, Path("none"), 600) as connection:
        [[pid]] = connection.run("SELECT pg_backend_pid()")
        stat = Path(f"/proc/{pid}/stat")
        begun, cpu = time.perf_counter(), time.process_time()
        served = backend_seconds(stat.read_text())
        rows = {"ours": ours, "literal": literal}[way](connection)
        cost = Cost(
            time.perf_counter() - begun,
            time.process_time() - cpu,
            backend_seconds(stat.read_text()) - served,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )
    print(json.dumps([rows, cost]))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
