"""`make query SQL="..."`: ask DuckDB about what has landed in a deployed stage.

Views: `<table>`, as the table is now; `<table>_history`, every version of its rows that landed;
`<table>_objects`, its objects in the bucket. Without SQL, statements are read until the input ends.
The exit status is 1 if a statement fails.
"""

from __future__ import annotations

import argparse
import os
import signal
import sys
import tempfile
from contextlib import closing, contextmanager, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Final

import duckdb
from botocore.exceptions import BotoCoreError

from local.console import print_table, waiting
from shared.bucket.bucket import Bucket
from shared.clients import s3_client
from shared.errors import PipelineError
from shared.tables import TABLES, Table
from tools.answers import MOST_ROWS, LandedTables, as_json_lines, as_table
from tools.stages import find_function, stage_options

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    type Answer = Callable[[LandedTables, str], None]

FAILURES: Final = (PipelineError, BotoCoreError, duckdb.Error)
INTERRUPTED: Final = 128 + signal.SIGINT  # what shells use for a command that Ctrl-C has ended
_WELCOME: Final = """\
SQL as DuckDB understands it; a statement ends with a semicolon. Each table has three views, such as
payment, payment_history and payment_objects: SHOW TABLES;
To leave: Ctrl-D
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Answer one text of SQL, or what is typed at a prompt."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.query", description=__doc__, parents=[stage_options()]
    )
    parser.add_argument("sql", nargs="?", help="one or more statements (default: a prompt)")
    options = parser.parse_args(arguments)
    os.environ["AWS_DEFAULT_REGION"] = options.region
    answer = _answer_for_machines if options.json else _answer_for_people
    try:
        with _landed(options) as landed:
            if options.sql is None:
                return _prompt(landed, answer)
            answer(landed, options.sql)
    except FAILURES as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # of `| head`; what is left must not fail once more at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


@contextmanager
def _landed(options: argparse.Namespace) -> Iterator[LandedTables]:
    """Yield what has landed in a stage; the copies of its objects are deleted at the end."""
    function = find_function(options.stage, options.region)
    bucket = Bucket(s3_client(), function.variables["BUCKET_NAME"])
    with (
        tempfile.TemporaryDirectory(prefix="query-") as folder,
        closing(LandedTables([*map(Table, TABLES)], bucket, Path(folder))) as landed,
    ):
        yield landed


def _prompt(landed: LandedTables, answer: Answer) -> int:
    """Answer statements until the input ends; return 1 if one of a script failed."""
    is_typed, has_failed = sys.stdin.isatty(), False
    if is_typed:
        with suppress(ImportError):  # some builds of Python have none
            import readline  # noqa: F401 - lets input() edit lines
        print(_WELCOME)
    for sql in _statements("SQL> " if is_typed else "", "...> " if is_typed else ""):
        try:
            answer(landed, sql)
        except FAILURES as error:
            print(error, file=sys.stderr)
            has_failed = True
        except KeyboardInterrupt:
            print("\nStopped.", file=sys.stderr)
    return int(has_failed and not is_typed)


def _statements(first: str, further: str) -> Iterator[str]:
    """Yield what is typed, each time up to a line that ends with a semicolon."""
    lines: list[str] = []
    while True:
        try:
            lines.append(input(further if lines else first))
        except KeyboardInterrupt:
            print()
            lines = []
            continue
        except EOFError:
            yield "\n".join(lines)
            return
        if lines[-1].rstrip().endswith(";"):
            yield "\n".join(lines)
            lines = []


def _answer_for_machines(landed: LandedTables, sql: str) -> None:
    for answer in landed.ask(sql):
        for line in as_json_lines(answer):
            print(line)


def _answer_for_people(landed: LandedTables, sql: str) -> None:
    answers = landed.ask(sql)
    for number in count():
        with waiting("Reading what has landed"):
            answer = next(answers, None)
            if answer is None:
                return
            lines, is_complete = as_table(answer)
        if number:
            print()
        print_table(lines)
        if not is_complete:
            print(f"\nThese are the first {MOST_ROWS:,} rows. JSON=1 prints all of them.")


if __name__ == "__main__":
    sys.exit(main())
