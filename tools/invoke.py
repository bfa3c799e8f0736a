"""`make ingest`, `make reconcile`, `make replay`, `make restore`: one call of a stage's function.

It shows what the function logs while it runs. The exit status is 0 if all is well, 1 if the call
failed or the reconciliation found something, and 2 if the command is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from botocore.exceptions import BotoCoreError

from local.console import interruptible, lines_while_waiting, print_table
from services.reconciliation.handler import requested
from shared.errors import PipelineError
from shared.events import requested_tables
from tools.following import SHORT
from tools.results import ingested, reconciled, replayed, restored, what_failed
from tools.stages import INGEST, RECONCILE, REGION, find_function, stage_options
from tools.watching import watch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tools.calling import Answer
    from tools.results import Result
    from tools.stages import Function
    from tools.watching import Say

REPLAY: Final = "replay"
RESTORE: Final = "restore"
_RANGE: Final = ("table", "from_row_id", "to_row_id")
INTERRUPTED: Final = 130  # what shells use for a command that Ctrl-C has ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Call a function once, and print what it did."""
    options, function = parse(arguments), None
    try:
        asked = event(options)
        function = find_function(options.stage, options.region, options.function)
        with _saying(options, function) as say:
            answer = watch(function, asked, say)
    except (PipelineError, BotoCoreError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        _to_stderr(_interrupted(function, options))
        return INTERRUPTED
    if options.json:
        print(json.dumps(answer.payload, indent=1))
    if answer.failed:
        sys.exit(what_failed(answer.payload, function.name, options.function))
    result = _result(answer, function, options)
    if options.json:
        _to_stderr("\n".join(result.notes))
    else:
        _print(result, f"Call {answer.request_id[:SHORT]} succeeded after {answer.seconds:.0f} s")
    return 0 if result.is_good else 1


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; end with status 2 if they are wrong."""
    common = stage_options()
    parser = argparse.ArgumentParser(prog="python -m tools.invoke", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    ingest = commands.add_parser("ingest", parents=[common], help="land new and changed rows")
    ingest.add_argument("--tables", type=_names, help="some, such as address,staff (all)")
    ingest.set_defaults(function=INGEST)
    reconcile = commands.add_parser("reconcile", parents=[common], help="compare source and bucket")
    reconcile.add_argument("--table", help="one, such as payment (all)")
    accept = "up to how many deletes of the table to pass on, even if they are much of it"
    reconcile.add_argument("--accept-deletes", type=int, help=accept)
    reconcile.set_defaults(function=RECONCILE)
    replay = commands.add_parser(REPLAY, parents=[common], help="land rows again")
    replay.add_argument("table")
    replay.add_argument("from_row_id", type=int, help="rows with an id above this one")
    replay.add_argument("to_row_id", type=int, help="up to and including this one")
    replay.set_defaults(function=INGEST)
    restore = commands.add_parser(RESTORE, parents=[common], help="land a lost object again")
    restore.add_argument("table")
    restore.add_argument("key", help="such as payment/1526-2024-11-11T15-03-24.jsonl")
    restore.set_defaults(function=INGEST)
    return parser.parse_args(arguments)


def event(options: argparse.Namespace) -> dict[str, Any]:
    """Return the event that a command sends to its function.

    Raises:
        EventError: the function would refuse it. It would log an ERROR, too, which fires an alarm.
    """
    if options.command == REPLAY:
        from services.ingestion.replays import requested_range  # imports pandas

        replay = {REPLAY: {name: getattr(options, name) for name in _RANGE}}
        requested_range(replay)
        return replay
    if options.command == RESTORE:
        from services.ingestion.restores import requested_object  # imports pandas

        restore = {RESTORE: {"table": options.table, "key": options.key}}
        requested_object(restore)
        return restore
    if options.command == RECONCILE:
        return _reconcile_event(options)
    if not options.tables:
        return {}
    ingest = {"tables": options.tables}
    requested_tables(ingest)
    return ingest


def _reconcile_event(options: argparse.Namespace) -> dict[str, Any]:
    reconcile: dict[str, Any] = {"tables": [options.table]} if options.table else {}
    if options.accept_deletes is not None:
        reconcile["accept_deletes"] = options.accept_deletes
    requested(reconcile)
    return reconcile


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",") if name.strip()]
    if not names:
        raise argparse.ArgumentTypeError("name at least one table, such as address,staff")
    return names


@contextmanager
def _saying(options: argparse.Namespace, function: Function) -> Iterator[Say]:
    """Yield what prints a line; for machines standard output has nothing but the answer."""
    what = f"Calling {function.name} in {function.region}"
    if options.json:
        yield lambda line, _level: _to_stderr(line)
        return
    print(f"{what}, for at most {function.timeout_seconds} s. Its log:\n", flush=True)
    with lines_while_waiting(what) as say:
        yield say


def _result(answer: Answer, function: Function, options: argparse.Namespace) -> Result:
    bucket_name = function.variables["BUCKET_NAME"]
    if options.command == REPLAY:
        left = answer.payload["replay"]["next_from_row_id"]
        more = None if left is None else continuation(left, options)
        return replayed(answer.payload, options.to_row_id, bucket_name, more)
    if options.command == RESTORE:
        return restored(answer.payload, bucket_name)
    if options.command == RECONCILE:
        return reconciled(answer.payload, bucket_name)
    return ingested(answer.payload)


def continuation(from_row_id: int, options: argparse.Namespace) -> str:
    """Return the command that replays what is left."""
    where = f"STAGE={options.stage}"
    if options.region != REGION:
        where += f" REGION={options.region}"
    return f"make replay TABLE={options.table} FROM={from_row_id} TO={options.to_row_id} {where}"


def _print(result: Result, title: str) -> None:
    print(f"\n{title}\n")
    print_table(result.lines)
    for note in result.notes:
        print(f"\n{note}")


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _interrupted(function: Function | None, options: argparse.Namespace) -> str:
    if function is None:
        return "\nStopped. Nothing was called."
    where = f"--stage {options.stage} --region {options.region}"
    return (
        "\nStopped watching. The call goes on in AWS, for at most "
        f"{function.timeout_seconds} s. Its log: npx sls logs -f {options.function} {where}"
    )


if __name__ == "__main__":
    interruptible()
    sys.exit(main())
