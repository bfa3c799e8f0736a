"""`python -m benchmarks.reconcile`: time and memory to reconcile a million sales orders.

They land by `ingest`, 50,000 an object; then a process of its own reconciles them, with S3 played
by moto's server, whose work is on the clock, too.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.stage import DATABASE, orders_server
from local.aws.stand_in import LocalAws
from shared.postgres.credentials import Credentials
from shared.postgres.session import connect, disconnect

ROWS = 1_000_000
REPEATS = 3
BUCKET = "benchmark"
TABLE = "sales_order"


def main() -> None:
    """Land the rows, and print what each of some calls took."""
    with orders_server(ROWS) as server, LocalAws() as aws:
        location = {"LocationConstraint": "eu-west-2"}
        aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
        secret = json.dumps(server.secret(DATABASE))
        for what in ["land", *["reconcile"] * REPEATS]:
            command = [sys.executable, "-m", "benchmarks.reconcile", what, secret]
            environ = {**os.environ, **aws.environ()}
            subprocess.run(command, env=environ, check=True, stderr=subprocess.DEVNULL)


def child(what: str, secret: str) -> None:
    """The process that lands, or the measured one."""
    import boto3

    client = boto3.client("s3")
    connection = connect(Credentials.from_secret("benchmark", secret), Path("none"), 600)
    begun, cpu = time.perf_counter(), time.process_time()
    if what == "land":
        from services.ingestion import Limits, ingest

        ingest([TABLE], client, connection, BUCKET, Limits(without_changes=[TABLE]))
    else:
        from services.reconciliation import reconcile

        findings = reconcile(TABLE, client, connection, BUCKET)
        assert findings.rows_in_source == findings.rows_landed == ROWS
        seconds, used = time.perf_counter() - begun, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(f"{seconds:.1f} s, of them {used:.1f} s of CPU; {peak:.0f} MB at most", flush=True)
    disconnect(connection)


if __name__ == "__main__":
    child(*sys.argv[1:]) if len(sys.argv) > 1 else main()
