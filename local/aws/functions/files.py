"""The files that a Lambda function sees: its zip, its layers' zips, and the runtime's own."""

from __future__ import annotations

import io
import zipfile
from importlib.metadata import distribution
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from moto.awslambda.models import LambdaFunction

# What AWS's Python runtimes have beside the standard library; nothing else of this virtual
# environment may be importable, or a package missing from the layer would go unnoticed.
RUNTIME_DISTRIBUTIONS = (
    "awslambdaric",
    "boto3",
    "botocore",
    "jmespath",
    "python-dateutil",
    "s3transfer",
    "simplejson",
    "six",
    "snapshot-restore-py",
    "urllib3",
)


class FunctionFiles:
    """The unpacked zips, each once, below one folder."""

    def __init__(self, folder: Path) -> None:
        """Make the folder."""
        folder.mkdir()
        self._folder = folder
        self._runtime = folder / "runtime"
        _link_runtime(self._runtime)

    def import_path(self, function: LambdaFunction, layers: list[tuple[str, bytes]]) -> list[Path]:
        """Return where the function finds modules, in AWS's order: task root, layers, runtime."""
        task_root = self._unpacked(function.code_digest, function.code_bytes)
        # Of two layers with the same file AWS lets the later one win.
        opt = [self._unpacked(digest, code) / "python" for digest, code in reversed(layers)]
        return [task_root, *opt, self._runtime]

    def _unpacked(self, digest: str, code: bytes) -> Path:
        target = self._folder / digest
        if not target.exists():
            with zipfile.ZipFile(io.BytesIO(code)) as archive:
                archive.extractall(target)
        return target


def _link_runtime(folder: Path) -> None:
    folder.mkdir()
    for name in RUNTIME_DISTRIBUTIONS:
        installed = distribution(name)
        for entry in {file.parts[0] for file in installed.files or []} - {"..", "__pycache__"}:
            (folder / entry).symlink_to(Path(str(installed.locate_file(entry))))
