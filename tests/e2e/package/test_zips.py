"""The zips that are deployed: the function's and the layer's."""

from __future__ import annotations

import importlib.metadata
import re
from importlib.util import MAGIC_NUMBER, cache_from_source, source_hash
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

import pytest
import yaml

from tests.e2e.package.packaged import REPOSITORY, SWITCHED

if TYPE_CHECKING:
    from zipfile import ZipFile

    from tests.e2e.package.packaged import Package

pytestmark = pytest.mark.e2e

HASHED_UNCHECKED = 0b01  # see PEP 552
LAMBDA_LIMIT = 250 * 1024 * 1024
LAYER = REPOSITORY / "layers" / "pandas-pg8000" / "requirements.txt"


def code() -> set[str]:
    """What the function is made of."""
    return {
        path.relative_to(REPOSITORY).as_posix()
        for folder in ("services", "shared")
        for pattern in ("*.py", "*.json")
        for path in (REPOSITORY / folder).rglob(pattern)
    }


def test_function_zip_holds_the_code_and_one_region_and_nothing_else(package: Package):
    compiled = {cache_from_source(name) for name in code() if name.endswith(".py")}
    deployed = code() | compiled | {"shared/rds-ca/eu-west-2.pem"}
    assert set(package.function.namelist()) == deployed


def test_function_zip_is_small(package: Package):
    size = (package.folder / "totesys-ingestion.zip").stat().st_size
    assert size < 300_000 * len(package.functions)


@pytest.mark.parametrize("name", ["function", "layer"])
def test_every_module_has_bytecode_that_is_used_without_a_look_at_its_source(
    package: Package, name: str
):
    """Else each cold start compiles it: Lambda's file systems are read-only."""
    found: ZipFile = getattr(package, name)
    modules = [each for each in found.namelist() if each.endswith(".py")]
    for module in modules:
        bytecode, source = found.read(cache_from_source(module)), found.read(module)
        flags = int.from_bytes(bytecode[4:8], "little")
        assert (bytecode[:4], flags) == (MAGIC_NUMBER, HASHED_UNCHECKED), module
        assert bytecode[8:16] == source_hash(source), module
    assert len(modules) > 20
    assert len([each for each in found.namelist() if each.endswith(".pyc")]) == len(modules)


def test_every_handler_is_in_the_zip(package: Package):
    for deployed in package.functions.values():
        module, function = deployed["Handler"].rsplit(".", 1)
        assert f"def {function}(" in package.function.read(f"{module}.py").decode()


def test_layer_is_whole_and_for_lambda(package: Package):
    assert package.layer.testzip() is None
    compiled = [name for name in package.layer.namelist() if name.endswith(".so")]
    ours = [name for name in compiled if ".cpython-" in name]
    assert ours
    assert all(name.endswith(".cpython-313-x86_64-linux-gnu.so") for name in ours)
    assert {PurePosixPath(name).parts[0] for name in package.layer.namelist()} == {"python"}


def test_function_and_layer_fit_into_lambda(package: Package):
    both = [*package.function.infolist(), *package.layer.infolist()]
    assert sum(info.file_size for info in both) < LAMBDA_LIMIT


def pins() -> dict[str, str]:
    lines = (line.partition("#")[0].strip() for line in LAYER.read_text().splitlines())
    return dict(line.split("==") for line in lines if line)


def test_layer_holds_what_is_pinned_and_nothing_else(package: Package):
    found = re.findall(
        r"python/([\w.]+)-([\w.]+)\.dist-info/METADATA", str(package.layer.namelist())
    )
    assert {name.replace("_", "-").lower(): version for name, version in found} == {
        name.replace("_", "-").lower(): version for name, version in pins().items()
    }


@pytest.mark.parametrize(("name", "version"), pins().items())
def test_tests_run_on_what_is_deployed(name: str, version: str):
    assert importlib.metadata.version(name) == version


def test_cached_layer_is_built_anew_for_another_target(package: Package):
    # The file in the package, not the one in the repository, is what the cache is keyed on.
    key = (package.folder / "requirements.txt").read_text()
    options = yaml.safe_load((REPOSITORY / "serverless.yml").read_text())["custom"]
    arguments = dict(
        option.split()
        for option in options["pythonRequirements"]["pipCmdExtraArgs"]
        if " " in option
    )
    assert f"python {arguments['--python-version']}," in key
    assert arguments["--platform"] in key


def test_params_reach_the_function(switched_package: Package):
    assert switched_package.environment["BUCKET_NAME"] == SWITCHED["bucketName"]
