"""Racers are spoken to, waited for and measured, whatever they are."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import pytest

from benchmarks.laps import Cost, in_turn, racing
from benchmarks.racers import Contender, contenders, psql

ECHO = """
from benchmarks.answering import answer

def work(rows=0, megabytes=0, loops=0, ends=False, fails=None):
    print("what libraries print")
    memory = b"x" * (megabytes << 20)
    for _ in range(loops * 1_000_000):
        pass
    if ends:
        raise SystemExit("no more memory")
    if fails:
        try:
            {}[fails]
        except KeyError as error:
            raise RuntimeError("a long story") from error
    return rows

answer(work)
"""


@pytest.fixture
def server(tmp_path):
    """A server of which only the process is known: this one."""
    (tmp_path / "postmaster.pid").write_text(f"{os.getpid()}\nmore\n")
    return SimpleNamespace(directory=tmp_path)


@pytest.fixture
def racer():
    with racing("echo", [sys.executable, "-c", ECHO]) as racer:
        yield racer


def test_a_racer_answers_how_many_rows_it_wrote_whatever_else_is_printed(racer):
    assert [racer.ask({"rows": number}) for number in (3, 0)] == [{"rows": 3}, {"rows": 0}]


def test_the_first_words_of_the_first_error_are_answered_and_the_racer_goes_on(racer):
    assert racer.ask({"fails": "key"}) == {"error": "KeyError: 'key'"}
    assert racer.ask({"rows": 1}) == {"rows": 1}


def test_a_racer_that_dies_says_why(racer):
    with pytest.raises(RuntimeError, match=r"^echo died: .*no more memory"):
        racer.ask({"ends": True})


def test_a_racer_that_can_not_start_says_why():
    # Its output ends long before its last words.
    script = "import os, sys; os.close(1); sum(range(10**7)); sys.exit('no such driver')"
    with (
        pytest.raises(RuntimeError, match=r"^echo died: no such driver"),
        racing("echo", [sys.executable, "-c", script]),
    ):
        pass


def test_a_lap_counts_the_racers_processor_and_memory(racer, server):
    small = racer.lap({"rows": 7}, server, 7)
    large = racer.lap({"rows": 7, "megabytes": 64, "loops": 4}, server, 7)
    assert large.peak_megabytes >= small.peak_megabytes + 60
    assert large.cpu_seconds > small.cpu_seconds
    assert large.seconds >= large.cpu_seconds - 0.02  # of which the clock has hundredths
    # Here the racer is a child of the server's process, as a backend is.
    assert large.server_seconds >= large.cpu_seconds


def test_a_lap_of_too_few_rows_is_none(racer, server):
    with pytest.raises(RuntimeError, match=r"^echo was to write 8 rows: \{'rows': 7\}"):
        racer.lap({"rows": 7}, server, 8)


def test_laps_are_made_in_turn_and_the_median_counts():
    made = []

    def lap(name, figures):
        def one():
            made.append(name)
            return Cost(*[figures[made.count(name) - 1]] * 4)

        return one

    laps = {"a": lap("a", [5.0, 1.0, 3.0]), "b": lap("b", [7.0])}
    assert in_turn(laps, {"a": 3, "b": 1}) == {"a": Cost(3, 3, 3, 3), "b": Cost(7, 7, 7, 7)}
    assert made == ["a", "b", "a", "a"]


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        ("\n", {}),
        ("COPY 5\n", {"rows": 5}),
        ("ERROR division by zero\n", {"error": "division by zero"}),
    ],
)
def test_what_psql_says_is_an_answer(line, answer):
    assert psql("TABLE {table}").parse(line) == answer


def test_psql_is_told_to_write_to_the_file():
    dialect = psql("TABLE {table} ORDER BY {id_column}", "(FORMAT csv)")
    said = dialect.phrase({"table": "a", "id_column": "a_id", "file": "/dev/null"})
    assert said.startswith("\\copy (TABLE a ORDER BY a_id) TO '/dev/null' (FORMAT csv)\n")


def test_without_the_peers_the_others_race():
    left = contenders(None, {})
    assert left.keys() == {"ours", "bare", "sent", "psql", "copy"}
    assert all(isinstance(each, Contender) for each in left.values())
