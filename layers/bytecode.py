"""Puts bytecode into a zip for Lambda: `python3 layers/bytecode.py python3.13 x.zip`.

Lambda's file systems are read-only, so whatever has to be compiled is compiled again at every cold
start. pip's bytecode is no help: it holds the time of its source, and zips round times to two
seconds. A file that is `unchecked` is used without a look at its source. That is right here,
because nobody can edit the one without the other: https://peps.python.org/pep-0552/
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath
from py_compile import PycInvalidationMode, compile

# Written into a zip, to know later that it was done. Another text here compiles all zips again.
DONE = f"bytecode of {sys.implementation.cache_tag}, unchecked".encode()


def add_bytecode(path: Path) -> None:
    """Compile every module in a zip, and replace the zip; nothing if that was done before."""
    with zipfile.ZipFile(path) as before:
        if before.comment == DONE:
            return
        # Beside it, so that it can take its place at once: others may read the old one meanwhile.
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder, path.name)
            with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as after:
                _copy(before, after, Path(folder))
                after.comment = DONE
            made.replace(path)


def _copy(before: zipfile.ZipFile, after: zipfile.ZipFile, folder: Path) -> None:
    for info in before.infolist():
        if info.is_dir() or info.filename.endswith(".pyc"):
            continue
        content = before.read(info)
        after.writestr(info, content)
        if info.filename.endswith(".py"):
            name = importlib.util.cache_from_source(info.filename)
            compiled = zipfile.ZipInfo(str(PurePosixPath(name)), info.date_time)
            compiled.external_attr = info.external_attr
            compiled.compress_type = zipfile.ZIP_DEFLATED
            after.writestr(compiled, _compiled(info.filename, content, folder))


def _compiled(name: str, source: bytes, folder: Path) -> bytes:
    module, bytecode = folder / "module.py", folder / "module.pyc"
    module.write_bytes(source)
    mode = PycInvalidationMode.UNCHECKED_HASH
    compile(str(module), str(bytecode), name, doraise=True, invalidation_mode=mode)
    return bytecode.read_bytes()


def main(runtime: str, *paths: str) -> None:
    """Add bytecode to zips, by the Python that the functions run on."""
    version = "python{}.{}".format(*sys.version_info)
    if version != runtime:
        sys.exit(
            f"python3 is {version}, but the functions run on {runtime}, which can't use its "
            "bytecode. Activate the venv that `make setup` made: . .venv/bin/activate"
        )
    for path in paths:
        # The layer's zip is a link to the cache of the plug-in that makes it.
        add_bytecode(Path(os.path.realpath(path)))


if __name__ == "__main__":
    main(*sys.argv[1:])
