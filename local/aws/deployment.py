"""Runs the Serverless Framework of this checkout."""

from __future__ import annotations

import os
import signal
import subprocess
from typing import TYPE_CHECKING

from local import REPOSITORY
from local.aws.stand_in import tail

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

SLS = REPOSITORY / "node_modules" / ".bin" / "sls"
# The first build of the layer downloads 50 MB.
DEPLOY_SECONDS = 900
# How often `sls` asks whether the stack is up; by default every 5 seconds.
POLL_MILLISECONDS = 200


def run_sls(
    command: str,
    stage: str,
    environ: Mapping[str, str],
    log: Path,
    options: Sequence[str] = (),
    folder: Path = REPOSITORY,
) -> None:
    """Run `sls <command> --stage <stage>` in the repository's root.

    Args:
        command: `deploy`, `deploy list`, `package`, `remove` or `rollback`.
        stage: the name of the stage.
        environ: the environment, which has the address of AWS.
        log: the file for what `sls` prints.
        options: more options, such as `--param=...`.
        folder: another one than the repository's root, with a service in it.

    Raises:
        RuntimeError: it failed; the message has the end of its output.
    """
    if not SLS.exists():
        raise RuntimeError("The Serverless Framework is not installed: run `make setup`.")
    with log.open("wb") as output:
        process = subprocess.Popen(
            [SLS, *command.split(), "--stage", stage, "--verbose", *options],
            cwd=folder,
            env={**environ, "SLS_AWS_MONITORING_FREQUENCY": str(POLL_MILLISECONDS)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = process.wait(DEPLOY_SECONDS)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
    if status:
        raise RuntimeError(f"`sls {command} --stage {stage}` failed ({status}):\n{tail(log)}")
