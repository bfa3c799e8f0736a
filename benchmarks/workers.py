"""`python -m benchmarks.workers`: a load, planned and landed here by one to four workers.

Planner and workers are processes of their own, as they are on AWS; they share the real server, and
each has a stub of S3 to itself. A worker begins when all are connected, as a warm one would.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.laps import cpu_seconds
from benchmarks.stage import DATABASE, orders_server, show
from benchmarks.stub import Aws, answer_here, configure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pg8000.native import Connection

    from local.totesys.database import Server

ROWS = 1_000_000
REPEATS = 3
MOST_WORKERS = 4
TABLE, BUCKET = "sales_order", "benchmark"


class Part:
    """A process that plans a load, or lands some of its items; a context manager."""

    def __init__(self, server: Server, asked: dict[str, Any]) -> None:
        """Start it, and wait until it is connected."""
        words = [sys.executable, "-m", "benchmarks.workers", "part"]
        self._process = subprocess.Popen(
            words,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._say(asked | {"secret": server.secret(DATABASE)})
        self._hear()

    def begin(self) -> None:
        """Let it begin."""
        self._say("begin")

    def end(self) -> dict[str, Any]:
        """Wait for its end; return what it took, and what it says."""
        found: dict[str, Any] = self._hear()
        return found

    def __enter__(self) -> Part:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _say(self, what: object) -> None:
        assert self._process.stdin
        self._process.stdin.write(f"{json.dumps(what)}\n")
        self._process.stdin.flush()

    def _hear(self) -> Any:
        assert self._process.stdout
        return json.loads(self._process.stdout.readline())


def planned(server: Server) -> dict[str, Any]:
    """Plan the load; return what it took, its claims, and its items."""
    with Part(server, {"plan": {"table": TABLE}}) as part:
        part.begin()
        return part.end()


def landed(server: Server, plan: dict[str, Any], workers: int) -> dict[str, float]:
    """Land the items of a plan by some workers; return what it took them together."""
    shares = [plan["items"][number::workers] for number in range(workers)]
    with ExitStack() as stack:
        parts = [
            stack.enter_context(Part(server, {"land": share, "claims": plan["claims"]}))
            for share in shares
        ]
        begun = time.perf_counter()
        for part in parts:
            part.begin()
        ends = [part.end() for part in parts]
        seconds = time.perf_counter() - begun
    assert sum(each["rows"] for each in ends) == ROWS
    figures = ("cpu_seconds", "server_seconds", "bytes")
    return {"seconds": seconds} | {name: sum(each[name] for each in ends) for name in figures}


def measure() -> dict[str, Any]:
    """Return all figures, those of the workers by their number: the fastest of some.

    Others that use the cores only make it slower.
    """
    with orders_server(ROWS) as server:
        plan = min((planned(server) for _ in range(REPEATS)), key=_seconds)
        found = {
            str(workers): min((landed(server, plan, workers) for _ in range(REPEATS)), key=_seconds)
            for workers in range(1, MOST_WORKERS + 1)
        }
    figures = ("seconds", "cpu_seconds", "server_seconds")
    return {
        "rows": ROWS,
        "bytes": found["1"]["bytes"],
        "batches": len(plan["claims"]),
        "plan": {name: plan[name] for name in figures},
        "workers": {
            workers: {name: took[name] for name in figures} for workers, took in found.items()
        },
        "load_average": os.getloadavg()[0],
    }


def _seconds(took: dict[str, Any]) -> float:
    return float(took["seconds"])


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, and the figure."""
    plan = found["plan"]
    took = f"{plan['seconds']:.1f} s, of which the server {plan['server_seconds']:.1f}"
    yield f"a load of {found['rows']:,} rows is planned, S3 stubbed", took, ""
    for workers, each in found["workers"].items():
        rate = found["rows"] / each["seconds"]
        cpu = f"CPU {each['cpu_seconds']:.1f} + {each['server_seconds']:.1f}"
        yield f"it lands by {workers} workers", f"{each['seconds']:.1f} s, {rate:,.0f}/s, {cpu}", ""
    yield "the machine's load average at the end", f"{found['load_average']:.1f}", ""


def take_part() -> None:
    """Do what the first line of standard input asks for, once there is a second one."""
    asked = json.loads(sys.stdin.readline())
    configure()
    claims = {key: text.encode() for key, text in asked.get("claims", {}).items()}
    aws = Aws(asked["secret"], claims)
    answer_here(aws)
    from shared.postgres.credentials import Credentials
    from shared.postgres.session import connect

    credentials = Credentials.from_secret(BUCKET, json.dumps(asked["secret"]))
    with connect(credentials, Path("none"), 600) as connection:
        work = (_planning if "plan" in asked else _landing)(asked, connection, aws)
        [[pid]] = connection.run("SELECT pg_backend_pid()")
        print("true", flush=True)
        sys.stdin.readline()
        begun, cpu = time.perf_counter(), time.process_time()
        served = cpu_seconds(pid)
        done = work()
        took = {
            "seconds": time.perf_counter() - begun,
            "cpu_seconds": time.process_time() - cpu,
            "server_seconds": cpu_seconds(pid) - served,
        }
    print(json.dumps(took | done), flush=True)


def _planning(
    asked: dict[str, Any], connection: Connection, aws: Aws
) -> Callable[[], dict[str, Any]]:
    import boto3

    from services.ingestion.loads import requested_load
    from services.ingestion.plan import plan_load
    from services.ingestion.run import Limits

    client = boto3.client("s3")

    def work() -> dict[str, Any]:
        plan = plan_load(requested_load(asked), client, connection, BUCKET, Limits())
        claims = {key: body.decode() for key, body in aws.objects.items() if "/claims/" in key}
        return {"claims": claims, "items": plan["items"]}

    return work


def _landing(
    asked: dict[str, Any], connection: Connection, aws: Aws
) -> Callable[[], dict[str, Any]]:
    import boto3

    from services.ingestion.items import land_item
    from services.ingestion.loads import requested_item

    client = boto3.client("s3")

    def work() -> dict[str, Any]:
        items = [requested_item({"land": each}) for each in asked["land"]]
        done = [land_item(each, client, connection, BUCKET, lambda: 60.0) for each in items]
        return {"rows": sum(each["rows"] for each in done), "bytes": aws.bytes}

    return work


if __name__ == "__main__":
    if sys.argv[1:] == ["part"]:
        take_part()
    else:
        show(rows(measure()))
