"""A racer's side of the race: what it is asked on standard input, it does and answers.

Only of the standard library, because racers run in several environments.
"""

from __future__ import annotations

import json
import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable


def answer(work: Callable[..., Any]) -> None:
    """Answer each line of standard input, a JSON object, by a line of JSON, until the input ends.

    An empty object is answered at once: the racer is ready. Any other one is given to `work` as
    arguments. What racers and their libraries print is thrown away.

    Args:
        work: returns `rows`, how many were written. An error of its is answered as `error`.
    """
    answers = os.fdopen(os.dup(1), "w")
    with open(os.devnull, "w") as nowhere:  # noqa: PTH123 - what is printed, by C code too
        os.dup2(nowhere.fileno(), 1)
    for line in sys.stdin:
        request, said = json.loads(line), {}
        if request:
            try:
                said = {"rows": work(**request)}
            except (KeyboardInterrupt, SystemExit):
                raise
            except BaseException as error:  # noqa: BLE001 - a panic of Rust is no Exception
                said = {"error": _first_words(error)}
        print(json.dumps(said), file=answers, flush=True)


def _first_words(error: BaseException) -> str:
    """Return the first words of the error that caused all others."""
    while cause := error.__cause__ or error.__context__:
        error = cause
    return f"{type(error).__name__}: {error}".splitlines()[0]
