"""Which transient errors a function can end with, read from the code that its handler reaches."""

from __future__ import annotations

import ast
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OURS = ("services", "shared")


def transient_errors(root: Path, handler: str) -> set[str]:
    """Return the names of the transient errors that a handler can raise.

    A class counts if a module that the handler reaches by its imports mentions it in code. One that
    only another service mentions does not.

    Args:
        root: the folder that is packaged.
        handler: as in the template: `services/ingestion/handler.lambda_handler`.
    """
    start = root / f"{handler.rpartition('.')[0]}.py"
    mentioned = {name for path in _reached(root, start) for name in _mentioned(path)}
    return mentioned & _transient(root)


def _nodes(path: Path) -> list[ast.AST]:
    return _parsed(path.read_text())


@cache
def _parsed(text: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(text)))


def _reached(root: Path, start: Path) -> set[Path]:
    """Return a module and what it imports, and so on; also what functions import when called."""
    found: set[Path] = set()
    open_ends = [start]
    while open_ends:
        path = open_ends.pop()
        if path not in found:
            found.add(path)
            open_ends.extend(each for each in _imported(root, path))
    return found


def _imported(root: Path, path: Path) -> Iterator[Path]:
    for node in _nodes(path):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path} imports relatively"
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            parts = name.split(".")
            if parts[0] in OURS:
                for place in (root.joinpath(*parts), root.joinpath(*parts[:-1])):
                    yield from _module(place)


def _module(place: Path) -> Iterator[Path]:
    for path in (place.with_suffix(".py"), place / "__init__.py"):
        if path.exists():
            yield path


def _mentioned(path: Path) -> Iterator[str]:
    """Yield every name that is used: `Name`, or `errors.Name`. Imports and bases are no use."""
    nodes = _nodes(path)
    bases = {id(base) for each in nodes if isinstance(each, ast.ClassDef) for base in each.bases}
    for node in nodes:
        if id(node) in bases:
            continue
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.Attribute):
            yield node.attr


def _transient(root: Path) -> set[str]:
    """Return every class that says `transient = True`, or whose base does."""
    classes = [
        node
        for folder in OURS
        for path in (root / folder).rglob("*.py")
        for node in _nodes(path)
        if isinstance(node, ast.ClassDef)
    ]
    found = {each.name for each in classes if "transient = True" in map(ast.unparse, each.body)}
    while inheriting := {
        each.name
        for each in classes
        if each.name not in found and found & set(map(ast.unparse, each.bases))
    }:
        found |= inheriting
    return found
