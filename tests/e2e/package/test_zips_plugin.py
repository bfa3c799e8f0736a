"""The zips get bytecode, and the one of the layer is there before anybody reads it."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import yaml

from tests.e2e.package.packaged import REPOSITORY

# As the plug-in does that builds the layer: it says that it is done, and makes the link after that.
LINKED_LATER = """
const { existsSync, symlinkSync } = require('node:fs');
const Zips = require(process.argv[1]);
const service = {
  layers: { pythonRequirements: { artifact: 'layer.zip' } },
  package: {},
  provider: { runtime: process.argv[2] },
  custom: { pythonRequirements: { pythonBin: 'python3' } },
  getAllFunctions: () => ['ingest'],
  getFunction: () => ({ package: { artifact: 'function.zip' } }),
};
const { hooks } = new Zips({ service, serviceDir: process.cwd() });
const [hook] = Object.values(hooks);
hook().then(() => console.log(existsSync('layer.zip')));
console.log(existsSync('layer.zip'));
setImmediate(() => symlinkSync('cached.zip', 'layer.zip'));
"""
ONLY_SOURCE, WITH_BYTECODE = ["a.py"], ["a.py", "__pycache__/a.cpython-313.pyc"]


def finish(folder, runtime: str) -> subprocess.CompletedProcess[str]:
    for name in ("cached.zip", "function.zip"):
        with zipfile.ZipFile(folder / name, "w") as made:
            made.writestr("a.py", "A = 1")
    return subprocess.run(
        ["node", "-e", LINKED_LATER, REPOSITORY / "layers" / "zips.js", runtime],
        cwd=folder,
        env={"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )


def names(folder) -> list[list[str]]:
    return [zipfile.ZipFile(folder / name).namelist() for name in ("layer.zip", "function.zip")]


def test_a_zip_that_is_linked_later_is_waited_for_and_both_get_bytecode(tmp_path):
    assert finish(tmp_path, "python3.13").stdout.split() == ["false", "true"]
    assert names(tmp_path) == [WITH_BYTECODE, WITH_BYTECODE]
    # The link stays a link: the cache has the bytecode for the next time.
    assert (tmp_path / "layer.zip").is_symlink()


def test_the_bytecode_of_another_python_is_refused(tmp_path):
    done = finish(tmp_path, "python3.14")
    assert done.returncode
    assert "python3 is python3.13, but the functions run on python3.14" in done.stderr
    assert "Activate the venv" in done.stderr
    assert names(tmp_path) == [ONLY_SOURCE, ONLY_SOURCE]


def test_the_zips_are_finished_after_they_were_made():
    plugins = yaml.safe_load((REPOSITORY / "serverless.yml").read_text())["plugins"]
    assert plugins.index("serverless-python-requirements") < plugins.index("./layers/zips")
