"""The zip of the layer is there before anybody reads it."""

from __future__ import annotations

import subprocess

import yaml

from tests.e2e.package.packaged import REPOSITORY

# As the plug-in does that builds the layer: it says that it is done, and makes the link after that.
LINKED_LATER = """
const { existsSync, symlinkSync } = require('node:fs');
const LayerZip = require(process.argv[1]);
const service = { layers: { pythonRequirements: { artifact: 'layer.zip' } } };
const { hooks } = new LayerZip({ service, serviceDir: process.cwd() });
const [hook] = Object.values(hooks);
hook().then(() => console.log(existsSync('layer.zip')));
console.log(existsSync('layer.zip'));
setImmediate(() => symlinkSync(process.argv[1], 'layer.zip'));
"""


def test_a_zip_that_is_linked_later_is_waited_for(tmp_path):
    plugin = REPOSITORY / "layers" / "layer-zip.js"
    done = subprocess.run(
        ["node", "-e", LINKED_LATER, plugin],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["false", "true"]


def test_it_is_waited_for_after_it_was_made():
    plugins = yaml.safe_load((REPOSITORY / "serverless.yml").read_text())["plugins"]
    assert plugins[:2] == ["serverless-python-requirements", "./layers/layer-zip"]
