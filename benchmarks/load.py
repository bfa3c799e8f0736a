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
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.stub import S3, Aws, answer_here, configure

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

IDLE_RUNS = 25
CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class Cost(NamedTuple):
    """What one way of doing it took.

    Attributes:
        seconds: of the wall clock.
        cpu_seconds: of the process.
        server_seconds: of the processor in the backend.
        peak_megabytes: of the process.
        idle_milliseconds: of a run after that, which finds nothing; S3 stubbed.
    """

    seconds: float
    cpu_seconds: float
    server_seconds: float
    peak_megabytes: float
    idle_milliseconds: float = 0.0


def backend_seconds(stat: str) -> float:
    """Return the processor time in a line of /proc/<pid>/stat."""
    fields = stat.rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def ours(connection: Connection, client: S3Client) -> int:
    """Land the table; its change stream begins with it."""
    from services.ingestion import ingest

    rows: int = ingest(["sales_order"], client, connection, "benchmark")["rows"]
    return rows


def idle(connection: Connection, aws: Aws) -> float:
    """Return the median of runs that find nothing, in milliseconds."""
    from services.ingestion import ingest

    client: Any = S3(aws)
    took = []
    for _ in range(IDLE_RUNS):
        begun = time.perf_counter()
        [found] = ingest(["sales_order"], client, connection, "benchmark")["tables"].values()
        took.append((time.perf_counter() - begun) * 1000)
        assert not found["rows"]
        assert not found["changes"]
    return median(took)


def literal(connection: Connection, client: S3Client) -> int:
    """Read all rows, make a DataFrame of them, and write it."""
    import pandas as pd

    found = connection.run("SELECT * FROM sales_order WHERE sales_order_id > 0 ORDER BY 1")
    names = [column["name"] for column in connection.columns or []]
    frame = pd.DataFrame(found, columns=names)
    body = frame.to_json(orient="records", lines=True, date_format="iso", default_handler=str)
    client.put_object(Bucket="benchmark", Key="sales_order/1.jsonl", Body=body)
    return len(frame)


def main(way: str, secret: dict[str, Any]) -> None:
    """Load, and print what it took."""
    configure()
    aws = Aws(secret)
    answer_here(aws)
    from shared.postgres.credentials import Credentials
    from shared.postgres.session import connect

    credentials = Credentials.from_secret("benchmark", json.dumps(secret))
    import boto3
    import pandas as pd  # like the client, a cold start's cost, see `ticks`

    assert pd.__version__
    client = boto3.client("s3")
    with connect(credentials, Path("none"), 600) as connection:
        [[pid]] = connection.run("SELECT pg_backend_pid()")
        stat = Path(f"/proc/{pid}/stat")
        begun, cpu = time.perf_counter(), time.process_time()
        served = backend_seconds(stat.read_text())
        rows = {"ours": ours, "literal": literal}[way](connection, client)
        cost = Cost(
            time.perf_counter() - begun,
            time.process_time() - cpu,
            backend_seconds(stat.read_text()) - served,
            resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        )
        if way == "ours":
            cost = cost._replace(idle_milliseconds=idle(connection, aws))
    print(json.dumps([rows, cost]))


if __name__ == "__main__":
    main(sys.argv[1], json.loads(sys.argv[2]))
