"""The service packaged: as it is, with everything switched that can be, with the next service."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from local.aws.stand_in import LocalAws
from tests.e2e.package.packaged import SWITCHED, Package
from tests.helpers import next_service
from tests.helpers.cases import as_long

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.package.packaged import Stack

OPTIONS = [f"--param={name}={value}" for name, value in SWITCHED.items()]


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged, so that a deployment out of the repository is not disturbed."""
    folder = tmp_path_factory.mktemp("service") / "service"
    next_service.copy_service(folder)
    return folder


@pytest.fixture(scope="session")
def extended_service(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with the next service, as docs/next-service.md adds it."""
    folder = tmp_path_factory.mktemp("extended") / "service"
    next_service.copy_service(folder)
    next_service.add_to(folder)
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
    return _package(service, aws_to_ask, "dev", *OPTIONS)


@pytest.fixture(scope="session")
def extended_package(extended_service: Path, aws_to_ask: LocalAws) -> Package:
    """Stage prod with the next service."""
    return _package(extended_service, aws_to_ask, "prod")


@pytest.fixture(scope="session")
def switched_extended_package(extended_service: Path, aws_to_ask: LocalAws) -> Package:
    """Stage dev with the next service and `SWITCHED`."""
    return _package(extended_service, aws_to_ask, "dev", *OPTIONS)


@pytest.fixture(scope="session", params=["package", as_long("extended_package")])
def which(request: pytest.FixtureRequest) -> str:
    """What the template's tests look at: all of them must hold with the next service, too."""
    return str(request.param)


@pytest.fixture(scope="session")
def prod(request: pytest.FixtureRequest, which: str) -> Stack:
    """Stage prod, without a param given."""
    stack: Stack = request.getfixturevalue(which)
    return stack


@pytest.fixture(scope="session")
def switched(request: pytest.FixtureRequest, which: str) -> Stack:
    """Stage dev with `SWITCHED`."""
    stack: Stack = request.getfixturevalue(f"switched_{which}")
    return stack


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
