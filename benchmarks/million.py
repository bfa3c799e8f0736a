"""`python -m benchmarks.million`: a first load of sales orders, against psql and against peers.

The floor for JSON lines is what psql takes for `COPY (SELECT row_to_json(...))` to /dev/null; what
the server may be asked to do is measured against its plain COPY. All in turn, on one server, each
in a process of its own. What takes ten times as long is compared on fewer rows.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.load import Cost, backend_seconds
from benchmarks.peers.venv import peers_python
from benchmarks.stage import DATABASE, orders_server, show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from local.totesys.database import Server

ROWS, FEWER_ROWS, MANY_ROWS = 1_000_000, 100_000, 10_000_000
REPEATS = 5
JSON_COPY = "COPY (SELECT row_to_json(t) FROM sales_order AS t ORDER BY sales_order_id) TO STDOUT"
PLAIN_COPY = "COPY sales_order TO STDOUT"


def by_psql(server: Server, sql: str) -> Cost:
    """Run a statement with psql, its output thrown away."""
    script = (
        f"SELECT pg_backend_pid() AS pid \\gset\n\\setenv PID :pid\n"
        f"\\o /dev/null\n{sql};\n\\o\n\\! cat /proc/$PID/stat\n"
    )
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
    cpu = after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime
    return Cost(seconds, cpu, backend_seconds(done.stdout.strip()), 0.0)


def by_us(server: Server, rows: int, way: str = "ours") -> Cost:
    """Load the rows in a process of its own, see `load`."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.load", way, json.dumps(server.secret(DATABASE))],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        check=True,
    )
    loaded, cost = json.loads(done.stdout.splitlines()[-1])
    assert loaded == rows, loaded
    return Cost(*cost)


def by_dlt(python: Path, server: Server, rows: int) -> Cost:
    """Load the rows by dlt's incremental load, its start not counted."""
    url = f"postgresql+psycopg2://postgres@/{DATABASE}?host={server.host}&port={server.port}"
    script = Path(__file__).parent / "peers" / "dlt_incremental.py"
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [python, script, url, "sales_order", "sales_order_id", folder],
            input="run\n",
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
    loaded = json.loads(done.stdout.splitlines()[-1])
    assert len(loaded["ids"]) == rows
    return Cost(loaded["seconds"], 0.0, 0.0, 0.0)


def in_turn(ways: dict[str, Callable[[], Cost]], repeats: int) -> dict[str, Cost]:
    """Return the medians of each way's figures."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(repeats):
        for name, way in ways.items():
            costs[name].append(way())
    return {
        name: Cost(*(median(figures) for figures in zip(*found, strict=True)))
        for name, found in costs.items()
    }


def measure() -> dict[str, Any]:
    """Return all figures."""
    with orders_server(ROWS) as server:
        million = in_turn(
            {
                "psql": lambda: by_psql(server, JSON_COPY),
                "ours": lambda: by_us(server, ROWS),
                "plain": lambda: by_psql(server, PLAIN_COPY),
            },
            REPEATS,
        )
    python = peers_python()
    with orders_server(FEWER_ROWS) as server:
        ways = {
            "psql": lambda: by_psql(server, JSON_COPY),
            "ours": lambda: by_us(server, FEWER_ROWS),
            "literal": lambda: by_us(server, FEWER_ROWS, "literal"),
        }
        if python:
            ways["dlt"] = lambda: by_dlt(python, server, FEWER_ROWS)
        fewer = in_turn(ways, REPEATS)
    with orders_server(MANY_ROWS) as server:
        many = in_turn({"ours": lambda: by_us(server, MANY_ROWS)}, 1)
    return {
        name: {way: cost._asdict() for way, cost in found.items()}
        for name, found in {"million": million, "fewer": fewer, "many": many}.items()
    }


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, the figure, and what was aimed at."""
    million, fewer, many = found["million"], found["fewer"], found["many"]["ours"]
    ours = million["ours"]
    yield (
        "1,000,000 rows landed, of psql's row_to_json",
        f"{ours['seconds'] / million['psql']['seconds']:.2f} ({ours['seconds']:.1f} s)",
        "<= 1.0",
    )
    yield "the same, CPU seconds of the function's process", f"{ours['cpu_seconds']:.1f} s", ""
    yield (
        "the same, the server's CPU, of its plain COPY",
        f"{ours['server_seconds'] / million['plain']['server_seconds']:.2f}",
        "<= 1.2",
    )
    yield "the same, peak memory", f"{ours['peak_megabytes']:.0f} MB", "<= 400 MB"
    yield "10,000,000 rows, peak memory", f"{many['peak_megabytes']:.0f} MB", "the same"
    per_row = many["seconds"] / MANY_ROWS / (fewer["ours"]["seconds"] / FEWER_ROWS)
    yield "10,000,000 rows, time per row, of that of 100,000", f"{per_row:.2f}", "0.8 to 1.2"
    yield (
        "idle run, 10,000,000 rows, of one with 100,000, S3 stubbed",
        f"{many['idle_milliseconds'] / fewer['ours']['idle_milliseconds']:.2f}"
        f" ({many['idle_milliseconds']:.1f} ms)",
        "1",
    )
    for way, name in (("literal", "the specification by its words"), ("dlt", "dlt")):
        if way in fewer:
            ratio = fewer[way]["seconds"] / fewer["ours"]["seconds"]
            yield f"100,000 rows by {name}, of ours", f"{ratio:.1f}", ""


def main() -> None:
    """Print the figures."""
    show(rows(measure()))


if __name__ == "__main__":
    main()
