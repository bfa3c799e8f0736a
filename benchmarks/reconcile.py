"""`python -m benchmarks.reconcile`: time, memory and requests of three nights of a million orders.

They land by `ingest` in 300 objects. The first night reads all of them, the second one finds
nothing new, and before the third one three more objects land. Each night is a process of its own,
with S3 played by moto's server, whose work is on the clock, too.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

from benchmarks.stage import DATABASE, count_requests, orders_server
from local import totesys
from local.aws.stand_in import LocalAws
from shared.postgres.credentials import Credentials
from shared.postgres.session import connect, disconnect

ROWS = 1_000_000
OBJECTS = 300
BUCKET = "benchmark"
TABLE = "sales_order"


def main() -> None:
    """Land the rows, and print what each night took."""
    with orders_server(ROWS) as server, LocalAws() as aws:
        location = {"LocationConstraint": "eu-west-2"}
        aws.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration=location)
        secret = json.dumps(server.secret(DATABASE))

        def run(what: str) -> None:
            command = [sys.executable, "-m", "benchmarks.reconcile", what, secret]
            environ = {**os.environ, **aws.environ()}
            subprocess.run(command, env=environ, check=True, stderr=subprocess.DEVNULL)

        run("land")
        run("first night")
        run("second night, nothing new")
        with closing(server.connect(DATABASE)) as connection:
            totesys.bulk_sales_orders(connection, 3 * (ROWS // OBJECTS))
        run("land")
        run("third night, three objects more")


def child(what: str, secret: str) -> None:
    """The process that lands, or the measured one."""
    import boto3

    client = boto3.client("s3")
    connection = connect(Credentials.from_secret("benchmark", secret), Path("none"), 600)
    requests = count_requests(client)
    begun, cpu = time.perf_counter(), time.process_time()
    if what == "land":
        from services.ingestion import Limits, ingest

        limits = Limits(batch_rows=ROWS // OBJECTS + 1)
        ingest([TABLE], client, connection, BUCKET, limits)
    else:
        from services.reconciliation import reconcile

        findings = reconcile(TABLE, client, connection, BUCKET)
        assert findings.rows_in_source == findings.rows_landed >= ROWS
        seconds, used = time.perf_counter() - begun, time.process_time() - cpu
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(
            f"{what}: {seconds:.1f} s, of them {used:.1f} s of CPU; {peak:.0f} MB at most", end=""
        )
        print(f"; {dict(requests)}", flush=True)
    disconnect(connection)


if __name__ == "__main__":
    child(*sys.argv[1:]) if len(sys.argv) > 1 else main()
