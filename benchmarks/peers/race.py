"""Peers that write a table as JSON lines; run by the Python of the peers' venv.

`python -m benchmarks.peers.race <way> <directory of the socket> <port> <database>`
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from benchmarks.answering import answer

if TYPE_CHECKING:
    from collections.abc import Callable

    type Write = Callable[[str, str, str], int]  # table, id column, file: returns how many rows


def by_duckdb(host: str, port: str, database: str) -> Write:
    """DuckDB's postgres extension, on one thread."""
    import duckdb
    from duckdb_extensions import import_extension

    for name in ("postgres_scanner", "json"):
        import_extension(name)
    connection = duckdb.connect(config={"threads": 1})
    connection.execute("LOAD postgres_scanner")
    connection.execute("LOAD json")
    connection.execute("SET TimeZone = 'UTC'")
    source = f"host={host} port={port} dbname={database} user=postgres"
    connection.execute(f"ATTACH '{source}' AS totesys (TYPE postgres, READ_ONLY)")

    def write(table: str, id_column: str, file: str) -> int:
        rows = f"SELECT * FROM totesys.{table} ORDER BY {id_column}"
        [[count]] = connection.execute(f"COPY ({rows}) TO '{file}' (FORMAT json)").fetchall()
        return int(count)

    return write


def by_connectorx(host: str, port: str, database: str) -> Write:
    """ConnectorX into a DataFrame of polars; it has no connection of its own to keep."""
    import connectorx
    import polars

    assert polars.__version__
    url = f"postgresql://postgres@{quote(host, safe='')}:{port}/{database}"

    def write(table: str, id_column: str, file: str) -> int:
        query = f"SELECT * FROM {table} ORDER BY {id_column}"
        frame = connectorx.read_sql(url, query, return_type="polars")
        frame.write_ndjson(file)
        return len(frame)

    return write


def by_adbc(host: str, port: str, database: str) -> Write:
    """Arrow's driver into a DataFrame of polars."""
    import polars
    from adbc_driver_postgresql import dbapi

    connection = dbapi.connect(
        f"postgresql:///{database}?host={quote(host, safe='')}&port={port}&user=postgres",
        autocommit=True,  # else an error fails all that follows
    )

    def write(table: str, id_column: str, file: str) -> int:
        query = f"SELECT * FROM {table} ORDER BY {id_column}"
        frame = polars.read_database(query, connection)
        frame.write_ndjson(file)
        return len(frame)

    return write


def by_dlt(host: str, port: str, database: str) -> Write:
    """The incremental load of dlt; it chooses its files' names, and compresses them."""
    from benchmarks.peers.dlt_incremental import landed, load, make_pipeline

    url = f"postgresql+psycopg2://postgres@/{database}?host={host}&port={port}"
    folder = tempfile.TemporaryDirectory(prefix="dlt-")
    pipeline = make_pipeline(Path(folder.name))

    def write(table: str, id_column: str, file: str) -> int:
        rows = load(pipeline, url, table, id_column)
        if Path(file).is_file():
            Path(file).write_bytes(b"".join(landed(Path(folder.name), table)))
        return rows

    return write


WAYS = {"duckdb": by_duckdb, "connectorx": by_connectorx, "adbc": by_adbc, "dlt": by_dlt}


def main(way: str, host: str, port: str, database: str) -> None:
    """Race."""
    answer(WAYS[way](host, port, database))


if __name__ == "__main__":
    main(*sys.argv[1:])
