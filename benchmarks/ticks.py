"""`python -m benchmarks.ticks`: what a tick takes that finds nothing, or a few rows.

Cold: a process of its own from its start to its end, with what the deployed zips hold, against a
script that only imports boto3, pg8000 and powertools from there, and pandas where rows land, makes
two clients and a connection. Warm: a call in a process that has had some, once with boto3's work on
each request and once with S3 stubbed, as a call takes no CPU there.
"""

from __future__ import annotations

import io
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from contextlib import closing, contextmanager, redirect_stderr, redirect_stdout
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, TextIO
from unittest.mock import patch

from benchmarks.stage import DATABASE, seeded_server, show
from benchmarks.stub import S3, Aws, Context, answer_here, configure
from local import REPOSITORY, totesys
from local.package import PACKAGE, package
from services.ingestion import ingest
from services.ingestion.handler import lambda_handler
from shared import telemetry
from shared.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from local.totesys.database import Server

COLD_REPEATS = 9
WARM_REPEATS = 25
USUAL_EVENTS = 9  # three rows each, and some orders are purchases: about 35 rows in 4 tables
MANY_TABLES = (11, 50, 100, 200)


def milliseconds(work: Callable[[], object]) -> float:
    """Return how long it takes."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1000


@contextmanager
def quietly(log: TextIO | None = None) -> Iterator[None]:
    """Keep log lines to oneself, or write them to `log`."""
    handler: Any = telemetry.logger().registered_handler
    with Path(os.devnull).open("w") as nowhere:
        before = handler.setStream(log or nowhere)
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
        handler.setStream(before)


def tick() -> dict[str, Any]:
    """Call the function."""
    return lambda_handler({}, Context())  # type: ignore[arg-type]


def counted(aws: Aws) -> dict[str, Any]:
    """Return what a tick asks of S3, what it logs, and what lands."""
    aws.requests.clear()
    log = io.StringIO()
    with quietly(log):
        tick()
    lines = log.getvalue().splitlines()
    tables = [each for each in map(json.loads, lines) if each["message"] == "Table ingested"]
    return {
        "requests": dict(aws.requests),
        "log_lines": len(lines),
        "log_bytes": sum(map(len, lines)),
        "rows": sum(table["rows"] for table in tables),
        "bytes": sum(table["bytes"] for table in tables),
        "tables": sum(table["rows"] > 0 for table in tables),
    }


@contextmanager
def deployed() -> Iterator[dict[str, Any]]:
    """Unpack the zips as Lambda does; yield folder and environment of a process that runs them.

    boto3 comes from here: on AWS it is in Lambda's runtime, with bytecode of its own.
    """
    package("prod")
    with tempfile.TemporaryDirectory() as name:
        task, layer = Path(name, "task"), Path(name, "opt")
        zipfile.ZipFile(PACKAGE / "totesys-ingestion.zip").extractall(task)
        zipfile.ZipFile(PACKAGE / "pythonRequirements.zip").extractall(layer)
        path = os.pathsep.join(map(str, (task, layer / "python", REPOSITORY)))
        # Lambda's file systems are read-only.
        variables = {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"}
        yield {"cwd": task, "env": os.environ | variables}


def cold(aws: Aws, server: Server) -> dict[str, float]:
    """Return the medians of idle tick, usual tick and scripts, and of the processor's times."""
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name, deployed() as place:
        folder = Path(name)
        bodies = {path: body.decode() for path, body in aws.objects.items()}
        (folder / "objects.json").write_text(json.dumps(bodies))
        (folder / "secret.json").write_text(json.dumps(server.secret(DATABASE)))
        found |= _in_turn({"script": "script", "tick": "tick"}, folder, place)
        with closing(server.connect(DATABASE)) as connection:
            totesys.add_events(connection, USUAL_EVENTS, seed=3)
        found |= _in_turn({"script_of_usual": "pandas", "usual": "tick"}, folder, place)
    return found


def counts(aws: Aws, server: Server) -> dict[str, Any]:
    """Return the counts of an idle tick and of a usual one."""
    with quietly():
        tick()
    idle = counted(aws)
    with closing(server.connect(DATABASE)) as connection:
        totesys.add_events(connection, USUAL_EVENTS, seed=1)
    return {"idle": idle, "usual": counted(aws)}


def _in_turn(
    processes: Mapping[str, str], folder: Path, place: Mapping[str, Any]
) -> dict[str, float]:
    """Return the medians of the time and the processor's time that each process takes."""
    took: dict[str, list[float]] = defaultdict(list)
    for _ in range(COLD_REPEATS):
        for name, what in processes.items():
            command = [sys.executable, "-m", "benchmarks.cold", what, str(folder)]
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            run = partial(subprocess.run, command, check=True, **place)
            took[name].append(milliseconds(run))
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            took[f"{name}_cpu"].append(used * 1000)
    return {name: median(times) for name, times in took.items()}


def warm(server: Server, first_seed: int) -> dict[str, float]:
    """Return the medians of idle and usual ticks, in milliseconds."""
    with closing(server.connect(DATABASE)) as connection, quietly():
        tick()
        idle = [milliseconds(tick) for _ in range(WARM_REPEATS)]
        usual = []
        for number in range(WARM_REPEATS):
            totesys.add_events(connection, USUAL_EVENTS, seed=first_seed + number)
            usual.append(milliseconds(tick))
            tick()
    return {"idle": median(idle), "usual": median(usual)}


def many_tables(server: Server) -> dict[int, float]:
    """Return the idle tick of so many tables, S3 stubbed, in milliseconds."""
    names = [f"table_{number}" for number in range(max(MANY_TABLES))]
    took = {}
    with closing(server.connect(DATABASE)) as connection, quietly():
        for name in names:
            connection.run(f"CREATE TABLE {name} ({name}_id serial PRIMARY KEY, note text)")
            connection.run(f"INSERT INTO {name} (note) VALUES ('a'), ('b')")
        client: Any = S3(Aws({}))
        ingest(names, client, connection, "benchmark")
        for number in MANY_TABLES:
            some = names[:number]
            took[number] = median(
                milliseconds(lambda: ingest(some, client, connection, "benchmark"))  # noqa: B023
                for _ in range(WARM_REPEATS)
            )
    return took


def measure() -> dict[str, Any]:
    """Return all figures."""
    configure()
    with seeded_server() as server:
        secret: Any = server.secret(DATABASE)
        aws = Aws(secret)
        answer_here(aws)
        found: dict[str, Any] = {"tables": len(TABLES), "counted": counts(aws, server)}
        found |= {"cold": cold(aws, server), "warm": warm(server, 1000)}
        with patch("services.ingestion.handler.s3_client", lambda: S3(aws)):
            found["warm_stubbed"] = warm(server, 2000)
        found["many_tables"] = many_tables(server)
    return found


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, the figure, and what was aimed at."""
    cold_, warm_, stubbed = found["cold"], found["warm"], found["warm_stubbed"]
    tables = {int(number): took for number, took in found["many_tables"].items()}
    few, many = min(tables), max(tables)
    slope = (tables[many] - tables[few]) / (many - few)
    yield (
        "idle tick, cold, of a script with the same imports",
        f"{cold_['tick'] / cold_['script']:.2f} ({cold_['tick']:.0f} ms)",
        "<= 1.2",
    )
    yield (
        "usual tick (35 rows, 4 tables), cold, of a script with the same imports",
        f"{cold_['usual'] / cold_['script_of_usual']:.2f} ({cold_['usual']:.0f} ms)",
        "<= 1.2",
    )
    yield (
        "usual tick (35 rows, 4 tables), cold, of the idle one",
        f"{cold_['usual'] / cold_['tick']:.2f} ({cold_['usual']:.0f} ms)",
        "<= 3",
    )
    yield "idle tick, warm, S3 stubbed", f"{stubbed['idle']:.0f} ms", "< 20 ms"
    yield "idle tick, warm, with boto3's work", f"{warm_['idle']:.0f} ms", ""
    yield (
        "usual tick (35 rows, 4 tables), of the idle one, S3 stubbed",
        f"{stubbed['usual'] / stubbed['idle']:.1f} ({stubbed['usual']:.0f} ms)",
        "<= 3",
    )
    yield (
        "usual tick, of the idle one, with boto3's work",
        f"{warm_['usual'] / warm_['idle']:.1f} ({warm_['usual']:.0f} ms)",
        "",
    )
    per_table = sum(found["counted"]["idle"]["requests"].values()) / found["tables"]
    yield "requests to S3 of an idle tick, a table", f"{per_table:.0f}", "<= 2"
    yield f"idle tick, {few} to {many} tables, a table more", f"{slope:.2f} ms", "< 1 ms"


def main() -> None:
    """Print the figures."""
    show(rows(measure()))


if __name__ == "__main__":
    main()
