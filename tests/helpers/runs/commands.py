"""Commands of `tools/` that a test calls in its own process, which then reaches a local stage."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
