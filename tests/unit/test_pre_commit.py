"""What git runs before a commit is what `make lint` runs."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def test_the_hooks_are_the_commands_of_make_lint():
    [commands] = re.findall(
        r"^lint:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE
    )
    [repository] = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    hooks = [hook["entry"] for hook in repository["hooks"]]
    assert all(entry.startswith(".venv/bin/") for entry in hooks)
    said = [entry.removeprefix(".venv/bin/").removesuffix(" --force-exclude") for entry in hooks]
    assert said == [command.strip() for command in commands.splitlines()]
