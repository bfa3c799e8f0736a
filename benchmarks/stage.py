"""The PostgreSQL that measurements run against."""

from __future__ import annotations

from collections import Counter
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

from local import totesys
from local.totesys.database import Server

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mypy_boto3_s3 import S3Client

DATABASE = "totesys"


def show(rows: Iterable[tuple[str, str, str]]) -> None:
    """Print what was measured, the figures, and what was aimed at."""
    for what, figure, aim in rows:
        print(f"{what:70} {figure:>22}  {aim}")


def count_requests(client: S3Client) -> Counter[str]:
    """Return what counts the requests of a client from now on: GET, PUT, HEAD and LIST."""
    requests: Counter[str] = Counter()

    def count(request: Any, **_: Any) -> None:
        requests["LIST" if "list-type=2" in request.url else request.method] += 1

    client.meta.events.register("before-send.s3", count)
    return requests


@contextmanager
def seeded_server(events: int = 15_000) -> Iterator[Server]:
    """A server with a Totesys of about its real size."""
    with Server.start() as server:
        server.create_database(DATABASE)
        with closing(server.connect(DATABASE)) as connection:
            totesys.create(connection)
            totesys.seed(connection, events)
            connection.run("VACUUM ANALYZE")
        yield server


@contextmanager
def orders_server(rows: int) -> Iterator[Server]:
    """A server whose Totesys has so many sales orders, and little else."""
    with Server.start(settings={"shared_buffers": "256MB"}) as server:
        server.create_database(DATABASE)
        with closing(server.connect(DATABASE)) as connection:
            totesys.create(connection)
            totesys.seed(connection, 10)
            connection.run("TRUNCATE sales_order CASCADE")
            totesys.bulk_sales_orders(connection, rows)
            connection.run("VACUUM ANALYZE")
        yield server
