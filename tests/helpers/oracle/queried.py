"""A table in DuckDB, over a folder that the test has written."""

from __future__ import annotations

import json
from contextlib import closing, contextmanager
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import duckdb

from shared.bucket import keys
from tools.views import LISTINGS, create_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.contracts.contract import Contract
    from shared.tables import Table


def lines(*rows: Mapping[str, Any]) -> bytes:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


@contextmanager
def queried(
    table: Table, contract: Contract, objects: Mapping[str, bytes]
) -> Iterator[duckdb.DuckDBPyConnection]:
    """Yield DuckDB with the views of a table over these objects, by their keys."""
    with TemporaryDirectory() as name, closing(_database().cursor()) as connection:
        folder = Path(name)
        connection.execute("DROP SCHEMA IF EXISTS of_this_test CASCADE")
        connection.execute("CREATE SCHEMA of_this_test; USE of_this_test")
        connection.execute("SET TimeZone = 'UTC'")
        for subfolder in (LISTINGS, keys.data_folder(table), keys.change_folder(table)):
            (folder / subfolder).mkdir(parents=True)
        for key in (f"{LISTINGS}/{table.name}.jsonl", f"{keys.data_folder(table)}nothing.jsonl"):
            (folder / key).touch()
        (folder / keys.change_folder(table) / "nothing.jsonl").touch()
        for key, body in objects.items():
            (folder / key).write_bytes(body)
        for statement in create_views(table, contract, folder):
            connection.execute(statement)
        yield connection


@cache
def _database() -> duckdb.DuckDBPyConnection:
    """Return one DuckDB for all tests: to open it takes longer than most of them."""
    return duckdb.connect()
