"""The service packaged twice: as it is, and with everything switched that can be."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.aws.stand_in import LocalAws
from tests.e2e.package.packaged import REPOSITORY, SWITCHED, Package, Stack
from tests.e2e.package.third import with_third_function

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INPUTS = ["serverless.yml", "package.json", "layers", "resources", "services", "shared"]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, so that a deployment out of the repository is not disturbed."""
    folder = tmp_path_factory.mktemp("service")
    for name in INPUTS:
        source = REPOSITORY / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    (folder / "node_modules").symlink_to(REPOSITORY / "node_modules")
    return folder


@pytest.fixture(scope="session")
def aws_to_ask() -> Iterator[LocalAws]:
    """Something to ask: `sls package` wants to know which layer is deployed already."""
    with LocalAws() as stand_in:
        yield stand_in


@pytest.fixture(scope="session")
def package(service: Path, aws_to_ask: LocalAws) -> Package:
    """Stage prod as it is deployed, without a param given."""
    return _package(service, aws_to_ask, "prod")


@pytest.fixture(scope="session")
def switched_package(service: Path, aws_to_ask: LocalAws) -> Package:
    """Stage dev with `SWITCHED`."""
    return _package(service, aws_to_ask, "dev", *(f"--param={k}={v}" for k, v in SWITCHED.items()))


@pytest.fixture(scope="session", params=["as it is", "with a third function"])
def compiled(request: pytest.FixtureRequest) -> Callable[[Package], Stack]:
    """What the template's tests look at: all of them must hold for the next service, too."""
    if request.param == "as it is":
        return lambda package: package
    return lambda package: Stack(with_third_function(package.template))


@pytest.fixture(scope="session")
def prod(package: Package, compiled: Callable[[Package], Stack]) -> Stack:
    """Stage prod, without a param given."""
    return compiled(package)


@pytest.fixture(scope="session")
def switched(switched_package: Package, compiled: Callable[[Package], Stack]) -> Stack:
    """Stage dev with `SWITCHED`."""
    return compiled(switched_package)


def _package(service: Path, aws: LocalAws, stage: str, *options: str) -> Package:
    folder = service.parent / f"package-{stage}"
    sls = service / "node_modules" / ".bin" / "sls"
    python = Path(sys.executable).parent  # whose pip builds the layer
    done = subprocess.run(
        [sls, "package", "--stage", stage, "--package", folder, *options],
        cwd=service,
        env={**aws.subprocess_environ(), "PATH": f"{python}{os.pathsep}{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return Package(folder)
