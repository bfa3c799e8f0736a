"""The service that docs/next-service.md adds: what the page says, done."""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING, Any, NamedTuple

import yaml

from tests.helpers.oracle.pages import ROOT, blocks, page

if TYPE_CHECKING:
    from pathlib import Path

PAGE = "docs/next-service.md"
INPUTS = ("serverless.yml", "package.json", "layers", "resources", "services", "shared")
_STEP = re.compile(
    r"^(Create|Append to|Merge into|Insert above the first alarm in) `([^`]+)`:\n\n"
    r"```\w*\n(.*?)^```",
    re.DOTALL | re.MULTILINE,
)


class Step(NamedTuple):
    """What is done with a file, and the text that it is done with."""

    what: str
    path: str
    text: str


def steps() -> list[Step]:
    """Return what the page says to do, in its order."""
    return [Step(*found) for found in _STEP.findall(page(PAGE))]


def created() -> set[str]:
    """Return the paths of the files that the page creates."""
    return {step.path for step in steps() if step.what == "Create"}


def schema() -> str:
    """Return the statements that make the tables of the warehouse."""
    [text] = blocks(page(PAGE), "sql")
    return text


def text_of(path: str) -> str:
    """Return what the page puts into a file, or appends to it."""
    [text] = [step.text for step in steps() if step.path == path]
    return text


def copy_service(folder: Path) -> None:
    """Copy what is deployed into a new folder, without the next service."""
    folder.mkdir()
    for name in INPUTS:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, folder / name)
    (folder / "node_modules").symlink_to(ROOT / "node_modules")


def add_to(folder: Path) -> None:
    """Do what the page says in a copy of the repository."""
    for step in steps():
        path = folder / step.path
        path.parent.mkdir(parents=True, exist_ok=True)
        before = path.read_text() if path.exists() else ""
        assert bool(before) == (step.what != "Create"), step.path
        path.write_text(_DO[step.what](before, step.text))


def _merge(before: str, text: str) -> str:
    return yaml.safe_dump(_merged(yaml.safe_load(before), yaml.safe_load(text)), sort_keys=False)


def _merged(one: Any, other: Any) -> Any:
    if isinstance(one, list):
        return one + other
    return one | {
        key: _merged(one[key], value) if key in one else value for key, value in other.items()
    }


def _insert(before: str, text: str) -> str:
    first = re.search(r"^.*:alarm:.*$", before, re.MULTILINE)
    assert first
    return before[: first.start()] + text + before[first.start() :]


_DO = {
    "Create": lambda _, text: text,
    "Append to": lambda before, text: before + text,
    "Merge into": _merge,
    "Insert above the first alarm in": _insert,
}
