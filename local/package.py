"""`make package`: build what `sls deploy` would upload, without an account.

`sls package` asks CloudFormation which layer is deployed already, so it needs somebody to answer.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from local import REPOSITORY
from local.aws.deployment import run_sls
from local.aws.stand_in import LocalAws
from local.console import interruptible, timed

if TYPE_CHECKING:
    from collections.abc import Sequence

PACKAGE = REPOSITORY / ".serverless"


def package(stage: str) -> None:
    """Package a stage into `PACKAGE`.

    Raises:
        RuntimeError: it failed; the message has the end of what `sls` said.
    """
    with LocalAws() as aws, tempfile.TemporaryDirectory() as folder:
        run_sls("package", stage, aws.subprocess_environ(), Path(folder) / "package.log")


def main(arguments: Sequence[str] | None = None) -> int:
    """Package a stage and print how large the files are."""
    parser = argparse.ArgumentParser(prog="python -m local.package", description=__doc__)
    parser.add_argument("--stage", default="prod", help="whose params are used (prod)")
    stage = parser.parse_args(arguments).stage
    interruptible()
    try:
        with timed(f"sls package --stage {stage}"):
            package(stage)
    except KeyboardInterrupt:
        sys.exit("\nStopped.")
    except RuntimeError as error:
        sys.exit(f"{error}")
    for path in sorted(PACKAGE.glob("*")):
        if path.is_file():
            print(f"{path.stat().st_size:>12,}  {path.relative_to(REPOSITORY)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
