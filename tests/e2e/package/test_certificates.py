"""Who may sign the database's certificate: shared/rds-ca, of which one file is deployed."""

from __future__ import annotations

import ssl
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.package.packaged import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.package.packaged import Package

pytestmark = pytest.mark.e2e

FILES = sorted((REPOSITORY / "shared" / "rds-ca").glob("*.pem"))


def certificates(path: str | Path) -> list[dict[str, Any]]:
    return ssl.create_default_context(cafile=path).get_ca_certs()


def common_name(certificate: dict[str, Any]) -> str:
    return str(dict(pair for (pair,) in certificate["subject"])["commonName"])


def test_environment_names_the_file_in_the_zip(package: Package, tmp_path: Path):
    path = package.function.extract(package.environment["DB_CA_FILE"], tmp_path)
    names = [common_name(each) for each in certificates(path)]
    assert len(names) == 3
    assert all(name.startswith("Amazon RDS eu-west-2 Root CA") for name in names)


def test_there_is_a_file_for_each_region():
    assert len(FILES) == 27


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_certificates_are_roots_of_their_region_for_decades(path: Path):
    found = certificates(path)
    assert len(found) == 3
    for certificate in found:
        assert common_name(certificate).startswith(f"Amazon RDS {path.stem} Root CA ")
        assert certificate["subject"] == certificate["issuer"]
        assert int(certificate["notAfter"].split()[3]) > 2060


def test_files_are_what_the_script_writes(tmp_path: Path):
    again = tmp_path / "again"
    subprocess.run(["node", REPOSITORY / "tools" / "rds-ca.mjs", again], check=True)
    assert {path.name: path.read_text() for path in again.iterdir()} == {
        path.name: path.read_text() for path in FILES
    }
