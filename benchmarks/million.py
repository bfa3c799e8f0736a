"""A million sales orders, from PostgreSQL to S3, against what PostgreSQL itself takes to say them.

Ours: the three functions' path in batches: read, check against the contract, render, PUT. Theirs:
`COPY (SELECT row_to_json(t) FROM sales_order t ORDER BY sales_order_id) TO STDOUT`, by psql to
/dev/null: the floor for JSON lines. Each runs in a process of its own, in turn, on one server.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.stage import DATABASE
from benchmarks.stub import Aws, answer_here, configure
from local import totesys
from local.database import Server

if TYPE_CHECKING:
    from pg8000.native import Connection

ROWS = 1_000_000
REPEATS = 5
JSON_COPY = "COPY (SELECT row_to_json(t) FROM sales_order AS t ORDER BY sales_order_id) TO STDOUT"
PLAIN_COPY = "COPY sales_order TO STDOUT"
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


def backend_seconds(connection: Connection) -> float:
    """Return the processor time that the connection's backend has used so far."""
    [[pid]] = connection.run("SELECT pg_backend_pid()")
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def ours(secret: dict[str, Any], connection: Connection) -> None:
    """Land the table; the objects are counted and thrown away."""
    import boto3

    from services.ingestion.ingest import ingest

    aws = Aws(secret)
    answer_here(aws)
    begun, cpu, served = time.perf_counter(), time.process_time(), backend_seconds(connection)
    summary = ingest(["sales_order"], boto3.client("s3"), connection, "benchmark")
    assert summary["rows"] == ROWS, summary
    _report(begun, cpu, served, connection)


def _report(begun: float, cpu: float, served: float, connection: Connection) -> None:
    cost = Cost(
        time.perf_counter() - begun,
        time.process_time() - cpu,
        backend_seconds(connection) - served,
        resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    )
    print(json.dumps(cost))


def by_psql(server: Server, sql: str) -> Cost:
    """Run a statement with psql, its output thrown away."""
    timed = f"SELECT pg_backend_pid() \\gset\n\\o /dev/null\n{sql};\n\\o\n"
    stat = "\\! cat /proc/:pid/stat\n".replace(":pid", "$PID")
    script = timed + "\\setenv PID :pg_backend_pid\n" + stat
    begun, used = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [server.binary("psql"), "-qAt", "-h", server.host, "-U", "postgres", "-d", DATABASE],
        input=script,
        capture_output=True,
        text=True,
        check=True,
    )
    seconds = time.perf_counter() - begun
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    fields = done.stdout.strip().rsplit(") ", 1)[1].split()
    served = (int(fields[11]) + int(fields[12])) / CLOCK_TICKS
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return Cost(seconds, cpu, served, 0.0)


def by_us(server: Server) -> Cost:
    """Run `ours` in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.million", "child", json.dumps(server.secret(DATABASE))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    return Cost(*json.loads(done.stdout.splitlines()[-1]))


def middle(costs: list[Cost]) -> Cost:
    """Return the median of each figure."""
    return Cost(*(median(figures) for figures in zip(*costs, strict=True)))


def measure(rows: int = ROWS, repeats: int = REPEATS) -> dict[str, Cost]:
    """Return the medians of each way, taken in turn."""
    costs: dict[str, list[Cost]] = {"ours": [], "json": [], "plain": []}
    with Server.start(settings={"shared_buffers": "256MB"}) as server:
        server.create_database(DATABASE)
        connection = server.connect(DATABASE)
        totesys.create(connection)
        totesys.seed(connection, 10)
        connection.run("TRUNCATE sales_order CASCADE")
        totesys.bulk_sales_orders(connection, rows)
        connection.run("VACUUM ANALYZE sales_order")
        for _ in range(repeats):
            costs["json"].append(by_psql(server, JSON_COPY))
            costs["ours"].append(by_us(server))
            costs["plain"].append(by_psql(server, PLAIN_COPY))
    return {name: middle(found) for name, found in costs.items()}


def main() -> None:
    """Print the table."""
    found = measure()
    for name, cost in found.items():
        print(name, {k: round(v, 2) for k, v in cost._asdict().items()})
    print("wall, of psql's JSON:", round(found["ours"].seconds / found["json"].seconds, 2))
    server = found["ours"].server_seconds / found["plain"].server_seconds
    print("server's CPU, of its plain COPY:", round(server, 2))


def child(secret: dict[str, Any]) -> None:
    """The measured process."""
    configure()
    from shared.database import connect
    from shared.settings import Credentials

    credentials = Credentials.from_secret("benchmark", json.dumps(secret))
    with connect(credentials, Path("none"), 600) as connection:
        ours(secret, connection)


if __name__ == "__main__":
    child(json.loads(sys.argv[2])) if len(sys.argv) > 1 else main()
