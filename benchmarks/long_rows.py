"""`python -m benchmarks.long_rows`: what it takes to land texts of 100 kB, plain ones and odd ones.

Odd ones have a quote, a line feed or a letter beyond ASCII in about each fifth place: each needs an
escape, or more than one byte.
"""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any

from benchmarks.laps import in_turn
from benchmarks.racers import LAP, Contender, ours
from benchmarks.stage import DATABASE, show
from local.totesys.database import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.laps import Cost

ROWS, CHARACTERS, REPEATS = 2_000, 100_000, 3
_CREATE = "CREATE TABLE {name} ({name}_id serial PRIMARY KEY, note text NOT NULL)"
# Digits of digests, which the server can't compress; of 16 digits, `a`, `b` and `c` become odd.
_FILL = """
INSERT INTO {name} (note) SELECT {note} FROM generate_series(1, {rows}) AS number, LATERAL (
    SELECT string_agg(md5(concat_ws('/', number, part)), '') AS digits
    FROM generate_series(1, {characters} / 32) AS part
) AS made"""
_NOTES = {"plain": "digits", "odd": "translate(digits, 'abc', e'\"\\né')"}


def measure() -> dict[str, Any]:
    """Return what the texts of each kind take."""
    with Server.start(settings={"shared_buffers": "256MB"}) as server:
        server.create_database(DATABASE)
        with closing(server.connect(DATABASE)) as connection:
            for name, note in _NOTES.items():
                connection.run(_CREATE.format(name=name))
                connection.run(_FILL.format(name=name, note=note, rows=ROWS, characters=CHARACTERS))
            connection.run("VACUUM ANALYZE")
        laps = {name: partial(_lap, server, name) for name in _NOTES}
        costs = in_turn(laps, dict.fromkeys(laps, REPEATS))
    kinds = {name: cost._asdict() for name, cost in costs.items()}
    return {"rows": ROWS, "characters": CHARACTERS, "kinds": kinds}


def _lap(server: Server, table: str) -> Cost:
    with Contender(table, ours("ours")).start(server) as racer:
        return racer.lap({**LAP, "table": table}, server, ROWS)


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """Yield what was measured, the figure, and what was aimed at."""
    megabytes = found["rows"] * found["characters"] / 1e6
    for name, cost in found["kinds"].items():
        yield (
            f"{megabytes:.0f} MB of {name} texts of {found['characters'] // 1000} kB, a second",
            f"{megabytes / cost['seconds']:.0f} MB ({cost['peak_megabytes']:.0f} MB of memory)",
            ">= 50 MB" if name == "plain" else "",
        )


if __name__ == "__main__":
    show(rows(measure()))
