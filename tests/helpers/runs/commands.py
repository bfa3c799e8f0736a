"""Commands of `tools/` that a test calls for a local stage."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

from local import REPOSITORY
from local.aws.stand_in import PROXY_VARIABLES

if TYPE_CHECKING:
    import pytest

    from local.stage import LocalStage


def reach(stage: LocalStage, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this process reach the stage like a shell that was told to."""
    for name in ("AWS_PROFILE", "AWS_SESSION_TOKEN", *PROXY_VARIABLES):
        monkeypatch.delenv(name, raising=False)
    for name, value in stage.aws.environ().items():
        monkeypatch.setenv(name, value)


def status(stage: LocalStage, *options: str) -> str:
    """Return what `make status` prints; it keeps its clients, so it has a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "tools.status", "--stage", "local", *options],
        cwd=REPOSITORY,
        env=stage.aws.subprocess_environ(),
        capture_output=True,
        text=True,
        check=True,
    ).stdout
