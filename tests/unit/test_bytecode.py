"""Zips with bytecode: what is in them, and that making them is all or nothing."""

from __future__ import annotations

import subprocess
import sys
import zipfile

import pytest

from layers.bytecode import add_bytecode

STALE = b"stale"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "function.zip"
    with zipfile.ZipFile(path, "w") as made:
        made.mkdir("package")
        made.writestr(zipfile.ZipInfo("package/__init__.py"), "")
        made.writestr(zipfile.ZipInfo("package/__pycache__/module.cpython-313.pyc"), STALE)
        made.writestr(zipfile.ZipInfo("package/module.py"), "def name():\n    return __name__\n")
        made.writestr(zipfile.ZipInfo("package/data.json"), "{}")
    return path


def test_modules_run_from_their_bytecode_and_data_stays(path, tmp_path):
    add_bytecode(path)
    with zipfile.ZipFile(path) as found:
        assert "package/data.json" in found.namelist()
        assert STALE not in [found.read(name) for name in found.namelist()]
        found.extractall(tmp_path)
    # Bytecode that is checked, or not there, would run this text.
    (tmp_path / "package" / "module.py").write_text("def name():\n    return 'source'\n")
    program = "from package.module import name; print(name(), name.__code__.co_filename)"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    # A traceback names the file that was unpacked, not the one that was compiled.
    assert done.stdout.split() == ["package.module", str(tmp_path / "package" / "module.py")]


def test_it_is_done_once_and_always_the_same(path):
    untouched = path.read_bytes()
    add_bytecode(path)
    made, at = path.read_bytes(), path.stat().st_ino
    add_bytecode(path)
    assert path.stat().st_ino == at
    path.write_bytes(untouched)
    add_bytecode(path)
    assert path.read_bytes() == made


def test_a_module_that_can_not_be_compiled_leaves_the_zip_as_it_was(path):
    with zipfile.ZipFile(path, "a") as made:
        made.writestr("package/wrong.py", "def")
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"package/wrong\.py"):
        add_bytecode(path)
    assert path.read_bytes() == before
    assert [*path.parent.iterdir()] == [path]
