"""Who takes part in the race, and how each is started: one process each, one table, one order."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.laps import JSON, Dialect, racing
from benchmarks.stage import DATABASE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.laps import Cost, Racer
    from local.totesys.database import Server

REPEATS = 5
LAP = {"table": "sales_order", "id_column": "sales_order_id", "file": "/dev/null"}
FIRST = "duckdb"  # what the others are compared with
_ROWS = "SELECT row_to_json(t)::text FROM {table} AS t ORDER BY {id_column}"
# JSON has no such characters, so CSV writes it as it is; COPY's own format doubles each backslash.
_AS_IT_IS = r"(FORMAT csv, QUOTE E'\x01', DELIMITER E'\x02')"


@dataclass(frozen=True)
class Contender:
    """One that takes part.

    Attributes:
        name: what it is called, in two lines at most.
        command: makes the command that starts it.
        dialect: how it is spoken to.
        environment: variables that it needs.
        rounds: how often it runs.
        is_json: whether it writes JSON lines.
    """

    name: str
    command: Callable[[Server], list[str | Path]]
    dialect: Dialect = JSON
    environment: Mapping[str, str] = field(default_factory=dict)
    rounds: int = REPEATS
    is_json: bool = True

    def start(self, server: Server) -> AbstractContextManager[Racer]:
        """Start it."""
        return racing(self.name, self.command(server), self.dialect, self.environment)

    def lap(self, server: Server, rows: int) -> Cost:
        """Let it write the sales orders, in a process that has done nothing yet."""
        with self.start(server) as racer:
            return racer.lap(LAP, server, rows)


def psql(query: str, options: str = "") -> Dialect:
    """Return how psql is told to write what a query returns, and says that it has."""

    def phrase(request: Mapping[str, Any]) -> str:
        if not request:
            return r"\echo"
        rows = query.format(**request)
        # psql's own words for an error are on standard error only.
        said = "\\if :ERROR\n\\echo ERROR :LAST_ERROR_MESSAGE\n\\endif"
        return f"\\copy ({rows}) TO '{request['file']}' {options}\n{said}"

    def parse(line: str) -> dict[str, Any]:
        word, _, rest = line.strip().partition(" ")
        if word == "ERROR":
            return {"error": rest}
        return {"rows": int(rest)} if word == "COPY" else {}

    return Dialect(phrase, parse)


def contenders(python: Path | None, sink: Mapping[str, str]) -> dict[str, Contender]:
    """Return who takes part, by key.

    Args:
        python: the one that has the peers; None if there is none, then they are left out.
        sink: how a process finds the S3 outside of it.
    """
    found = {
        "ours": Contender("this service", ours("ours")),
        "bare": Contender("this service,\nno contracts", ours("bare")),
        "sent": Contender("this service,\nS3 over TLS", ours("sent"), environment=sink),
        "psql": Contender("psql,\nrow_to_json", _psql, psql(_ROWS, _AS_IT_IS)),
        "copy": Contender(
            "psql,\nplain COPY",
            _psql,
            psql("TABLE {table}"),  # which is in this order already
            is_json=False,
        ),
    }
    if python:
        found = {
            "duckdb": Contender("DuckDB,\none thread", _peer(python, "duckdb")),
            "connectorx": Contender("ConnectorX\n+ polars", _peer(python, "connectorx")),
            "adbc": Contender("ADBC\n+ polars", _peer(python, "adbc")),
            **found,
            "dlt": Contender("dlt", _peer(python, "dlt"), rounds=1),  # it takes a minute
        }
    return found


def ours(way: str) -> Callable[[Server], list[str | Path]]:
    """Return what starts one of our own ways, see `benchmarks.load`."""

    def command(server: Server) -> list[str | Path]:
        secret = json.dumps(server.secret(DATABASE))
        return [sys.executable, "-m", "benchmarks.load", way, secret]

    return command


def _peer(python: Path, way: str) -> Callable[[Server], list[str | Path]]:
    def command(server: Server) -> list[str | Path]:
        place = (server.host, str(server.port), DATABASE)
        return [python, "-m", "benchmarks.peers.race", way, *place]

    return command


def _psql(server: Server) -> list[str | Path]:
    place = ("-h", server.host, "-p", str(server.port), "-d", DATABASE)
    return [server.binary("psql"), "-X", "-At", "-U", "postgres", *place]
