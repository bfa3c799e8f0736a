"""`python -m benchmarks.nights`: what a reconciliation asks of S3, and the processor's time.

A night in which nothing is new, one after some ticks with news in four tables, and what listing a
page of 1,000 objects takes. Each night is a process of its own, from its start to its end; S3 is
played by moto's server, whose work is not counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.stage import DATABASE, count_requests, seeded_server, show
from local import totesys
from local.aws.stand_in import LocalAws
from services.ingestion import ingest
from shared.bucket import keys
from shared.postgres.credentials import Credentials
from shared.postgres.session import connect, disconnect
from shared.tables import TABLES, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_s3 import S3Client
    from pg8000.native import Connection

NEWS_TICKS = 12
EVENTS = 9  # see benchmarks.ticks
REPEATS = 3
BUCKET, PAGE_BUCKET = "benchmark", "benchmark-page"
PAGE = 1000  # objects, the most that S3 lists at once
PAGES_READ = 5


def measure() -> dict[str, Any]:
    """Return all figures."""
    with seeded_server(2000) as server, LocalAws() as aws:
        client = aws.client("s3")
        for name in (BUCKET, PAGE_BUCKET):
            location = {"LocationConstraint": "eu-west-2"}
            client.create_bucket(Bucket=name, CreateBucketConfiguration=location)
        _fill_page(client)
        secret = json.dumps(server.secret(DATABASE))
        with closing(server.connect(DATABASE)) as connection:
            _land(secret, client)
            _night(aws, secret)  # reads everything
            quiet = [_night(aws, secret) for _ in range(REPEATS)]
            for number in range(NEWS_TICKS):
                totesys.add_events(connection, EVENTS, seed=number)
                _land(secret, client)
            news = _night(aws, secret)
        page = _child(aws, "page", secret)
    milliseconds = median(night["cpu"] for night in quiet)
    return {
        "ticks": NEWS_TICKS,
        "quiet": {"cpu": milliseconds, "requests": quiet[-1]["requests"]},
        "news": news,
        "page_cpu": page["cpu"],
    }


def _fill_page(client: S3Client) -> None:
    for row_id in range(1, PAGE + 1):
        key = keys.format_data_key(Table(TABLES[0]), row_id, keys.timestamp_now())
        client.put_object(Bucket=PAGE_BUCKET, Key=key, Body=b"")


def _land(secret: str, client: S3Client) -> None:
    from benchmarks.ticks import quietly  # imports much that a measured process does not need

    connection = _connect(secret)
    with quietly():
        ingest(TABLES, client, connection, BUCKET)
    disconnect(connection)


def _connect(secret: str) -> Connection:
    credentials = Credentials.from_secret("benchmark", secret)
    return connect(credentials, Path("none"), 600)


def _night(aws: LocalAws, secret: str) -> dict[str, Any]:
    return _child(aws, "night", secret)


def _child(aws: LocalAws, what: str, secret: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.nights", what, secret]
    done = subprocess.run(
        command, env=os.environ | aws.environ(), check=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def child(what: str, secret: str) -> None:
    """The measured process: prints what it took."""
    import boto3

    client: S3Client = boto3.client("s3")
    found = _page(client) if what == "page" else _reconciled(client, secret)
    print(json.dumps(found))


def _page(client: S3Client) -> dict[str, Any]:
    """Return what a page takes; the first one sets up a connection."""
    from services.reconciliation.listing import list_batches
    from shared.bucket.bucket import Bucket

    took = []
    for _ in range(1 + PAGES_READ):
        begun = time.process_time()
        listed = list_batches(Table(TABLES[0]), PAGE, Bucket(client, PAGE_BUCKET))
        took.append((time.process_time() - begun) * 1000)
        assert len(listed.keys) == PAGE
    return {"cpu": median(took[1:])}


def _reconciled(client: S3Client, secret: str) -> dict[str, Any]:
    from services.reconciliation import reconcile

    requests = count_requests(client)
    connection = _connect(secret)
    for table in TABLES:
        findings = reconcile(table, client, connection, BUCKET)
        assert not len(findings.missing)
        assert not findings.faults
    disconnect(connection)
    return {"cpu": time.process_time() * 1000, "requests": dict(requests)}


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, the figure, and what was aimed at."""
    quiet, news, ticks = found["quiet"], found["news"], found["ticks"]
    gets = (news["requests"]["GET"] - quiet["requests"]["GET"]) / ticks
    yield "reconciliation without news, CPU", f"{quiet['cpu']:.0f} ms", ""
    yield "its requests", ", ".join(f"{n} {what}" for what, n in quiet["requests"].items()), ""
    yield (
        "for each tick with news in four tables, GETs and CPU",
        f"{gets:.0f}, {(news['cpu'] - quiet['cpu']) / ticks:.0f} ms",
        "",
    )
    yield "for each page of 1,000 objects, CPU", f"{found['page_cpu']:.0f} ms", ""


def main() -> None:
    """Print the figures."""
    show(rows(measure()))


if __name__ == "__main__":
    child(*sys.argv[1:]) if len(sys.argv) > 1 else main()
