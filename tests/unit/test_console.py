"""What the console prints: plain text into a pipe, and a spinner on a terminal only."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from local.console import log_line, table, timed

ROOT = Path(__file__).resolve().parents[2]
SPINNER = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
LONG = "x" * 200

# The step ends as soon as its spinner has been drawn, or at once where there is none.
SHOW = f"""
from local.console import heading, print_table, table, timed, waiting
heading("A [bold] heading :smile: 12")
with timed("A step"):
    pass
with waiting("Reading"):
    pass
print_table(table(("name", "rows"), [("{LONG}", "1,234")]))
try:
    with timed("Another"):
        raise RuntimeError
except RuntimeError:
    pass
"""
# What the shell says of its terminal is not to matter.
ENVIRONMENT = {
    name: value
    for name, value in os.environ.items()
    if name not in {"NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"}
} | {"TERM": "xterm"}


def on_a_terminal(script=SHOW, **environment):
    """Run on a pseudo terminal; return what arrived there."""
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env=ENVIRONMENT | environment, stdout=theirs
    ) as process:
        os.close(theirs)
        found = b""
        with suppress(OSError):  # Linux' way to say that nobody writes any more
            while some := os.read(ours, 4096):
                found += some
    os.close(ours)
    assert process.returncode == 0
    return found.decode().replace("\r\n", "\n")


def plain():
    done = subprocess.run(
        [sys.executable, "-c", SHOW], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True
    )
    return done.stdout.decode()


def without_seconds(text):
    return re.sub(r" +\d+\.\d s", " N s", text)


EXPECTED = f"""
A [bold] heading :smile: 12

  A step{"." * 56} N s
{"name":200}   rows
{LONG}  1,234
  Another{"." * 55} stopped after N s
"""


def test_into_a_pipe_goes_plain_text():
    found = plain()
    assert not {"\x1b", "\r", *SPINNER} & set(found)
    assert without_seconds(found) == EXPECTED


def test_into_a_pipe_the_title_goes_before_the_step_ends(capsys):
    with timed("A step"):
        assert capsys.readouterr().out == f"  A step{'.' * 56} "
    assert without_seconds(capsys.readouterr().out) == " N s\n"


def test_on_a_terminal_a_spinner_has_the_title_and_the_seconds_and_goes_away():
    found = on_a_terminal()
    assert re.search(rf"[{SPINNER}] A step \d+ s", found)
    assert re.search(rf"[{SPINNER}] Reading \d+ s", found)
    assert "\x1b[1mA [bold] heading :smile: 12\x1b[0m" in found
    codes = r"\x1b\[[0-9;?]*[a-zA-Z]|\r"
    kept = [line for line in re.sub(codes, "", found).split("\n") if not set(SPINNER) & set(line)]
    assert "".join(without_seconds("\n".join(kept)).split()).endswith(
        "".join(EXPECTED.split()).partition("Astep")[2].partition("Ns")[2]
    )


def test_a_dumb_terminal_gets_no_spinner():
    assert not set(SPINNER) & set(on_a_terminal(TERM="dumb"))


def test_numbers_are_aligned_right_and_names_left():
    found = table(("a", "rows", "b"), [("x", "1", "y"), ("long", "1,234", "[z]")], (0, 2))
    assert found == ["a      rows  b", "x         1  y", "long  1,234  [z]"]


SAY = f"""
from local.console import lines_while_waiting
with lines_while_waiting("Calling") as say:
    say("[a] line", "INFO")
    say("{LONG}", "ERROR")
"""


def test_lines_are_printed_while_it_waits_and_into_a_pipe_go_only_they():
    done = subprocess.run(
        [sys.executable, "-c", SAY], cwd=ROOT, env=ENVIRONMENT, stdout=subprocess.PIPE, check=True
    )
    assert done.stdout.decode() == f"[a] line\n{LONG}\n"
    found = on_a_terminal(SAY)
    assert re.search(rf"[{SPINNER}] Calling \d+ s", found)
    assert "[a] line\n" in found
    assert f"\x1b[1;31m{LONG}\x1b[0m\n" in found


@pytest.mark.parametrize("more", [{}, {"location": "x", "service": "ingestion"}])
def test_a_log_line_is_its_time_level_message_and_own_fields(more):
    record = {"timestamp": "2026-11-26 12:34:56,789+00:00", "level": "INFO", "message": "Run ended"}
    assert log_line(record | more | {"rows": 3}) == "12:34:56 INFO  Run ended: rows=3"


def test_a_log_line_is_one_line_without_what_is_nothing():
    record = {"timestamp": "2026-11-26 12:34:56,789+00:00", "level": "ERROR", "message": "Failed"}
    more = {"rows": 0, "changes": 0, "key": None, "more": False, "reason": "one\ntwo"}
    assert log_line(record | more) == "12:34:56 ERROR Failed: rows=0 reason=one two"
    assert log_line(record) == "12:34:56 ERROR Failed"
