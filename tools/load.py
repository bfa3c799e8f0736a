"""`make load TABLE=payment STAGE=prod`: load a table by many workers, and follow it to its end.

A load of the table that is under way is followed, instead of starting a second one. The exit status
is 0 if all is well, 1 if the load failed, and 2 if the command is wrong.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError

from local.console import interruptible, lines_while_waiting, print_table
from services.ingestion.loads import requested_load
from shared.errors import EventError, PipelineError
from tools.loads import find_load, load_command, start
from tools.progress import follow, spoken
from tools.results import loaded, what_failed
from tools.stages import INGEST, find_function, stage_options

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.loads import Ended, Load
    from tools.watching import Say

INTERRUPTED = 130  # what shells use for a command that Ctrl-C has ended


def main(arguments: Sequence[str] | None = None) -> int:
    """Load a table, or follow the load that is under way; print how it ended."""
    options, load = parse(arguments), None
    say: Say = lambda line, _level: _to_stderr(line)  # noqa: E731 - what machines get
    try:
        refuse_wrong(options)
        function = find_function(options.stage, options.region)
        load = find_load(function, options.table)
        _announce(load, options)
        load = load or start(function, options.table, options.workers)
        if options.json:
            ended = follow(load, function, say)
        else:
            with lines_while_waiting(f"Loading {options.table}") as say:
                ended = follow(load, function, say)
    except EventError as error:
        _to_stderr(str(error))
        return 2
    except (PipelineError, BotoCoreError) as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        _to_stderr(interrupted(load, options))
        return INTERRUPTED
    return _report(ended, load, options)


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; end with status 2 if they are wrong."""
    parser = argparse.ArgumentParser(
        prog="python -m tools.load", description=__doc__, parents=[stage_options()]
    )
    parser.add_argument("table")
    parser.add_argument("--workers", type=int, help="how many at once (8)")
    return parser.parse_args(arguments)


def refuse_wrong(options: argparse.Namespace) -> None:
    """Refuse what the plan would refuse, before anything is started.

    Raises:
        EventError: it would. It would log an ERROR, too, which fires an alarm.
    """
    workers = {} if options.workers is None else {"workers": options.workers}
    requested_load({"plan": {"table": options.table} | workers})


def interrupted(load: Load | None, options: argparse.Namespace) -> str:
    """Return what becomes of a load that is not followed any more, and what one can do."""
    if load is None:
        return f"\nStopped. Nothing was started; if it was, this follows it: {_command(options)}"
    return (
        "\nStopped following. The load goes on in AWS. To follow it again:\n\n"
        f"{_command(options)}\n\nTo stop it:\n\n{stop_command(load, options.region)}\n\n"
        "Nothing is lost then: the runs land what is left, one batch after the other, and another "
        "load lands it by many workers."
    )


def stop_command(load: Load, region: str) -> str:
    """Return the command that stops a load."""
    return f"aws stepfunctions stop-execution --region {region} --execution-arn {load.execution}"


def load_failed(ended: Ended, again: str) -> str:
    """Return why a load failed, and what to do.

    Args:
        ended: how it ended.
        again: the command that starts another one.
    """
    if ended.status != "FAILED":
        return (
            f"The load has ended as {ended.status}: somebody stopped it. Nothing is lost. The runs "
            f"land what is left, one batch after the other, or many workers: {again}"
        )
    try:
        said = json.loads(ended.cause)
    except ValueError:
        said = None
    if not isinstance(said, dict):
        said = {"errorType": ended.error, "errorMessage": ended.cause}
    return f"{what_failed(said, 'The load', INGEST)}\n\nTo start it again: {again}"


def _command(options: argparse.Namespace) -> str:
    return load_command(options.table, options.stage, options.region)


def _announce(load: Load | None, options: argparse.Namespace) -> None:
    print_line = _to_stderr if options.json else print
    where = f"{options.stage} in {options.region}"
    if load is None:
        print_line(f"Loading {options.table} of {where}:\n")
        return
    print_line(
        f"A load of {options.table} of {where} is under way, with the workers it began with. "
        "Nothing is started; this follows it:\n"
    )


def _report(ended: Ended, load: Load, options: argparse.Namespace) -> int:
    if options.json:
        said = {"execution": load.execution, "batches": load.batches} | asdict(ended)
        print(json.dumps(said, indent=1))
    if ended.status != "SUCCEEDED":
        sys.exit(load_failed(ended, _command(options)))
    result = loaded(ended.output, load.batches)
    if options.json:
        _to_stderr("\n".join(result.notes))
        return 0
    print(f"\nThe load succeeded after {spoken(ended.seconds)}\n")
    print_table(result.lines)
    for note in result.notes:
        print(f"\n{note}")
    return 0


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    interruptible()
    sys.exit(main())
