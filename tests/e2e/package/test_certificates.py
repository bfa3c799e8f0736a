"""Who may sign the database's certificate: shared/rds-ca, of which one file is deployed."""

from __future__ import annotations

import re
import ssl
import subprocess
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from botocore.session import Session
from cryptography import x509

from tests.e2e.package.packaged import REPOSITORY

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.package.packaged import Package

pytestmark = pytest.mark.e2e

FILES = sorted((REPOSITORY / "shared" / "rds-ca").glob("*.pem"))
OF_THE_SCRIPT = "written by tools/rds-ca.mjs"


def certificates(path: str | Path) -> list[dict[str, Any]]:
    return ssl.create_default_context(cafile=path).get_ca_certs()


def common_name(certificate: dict[str, Any]) -> str:
    return str(dict(pair for (pair,) in certificate["subject"])["commonName"])


def test_environment_names_the_file_in_the_zip(package: Package, tmp_path: Path):
    path = package.function.extract(package.environment["DB_CA_FILE"], tmp_path)
    names = [common_name(each) for each in certificates(path)]
    assert len(names) == 3
    assert all(name.startswith("Amazon RDS eu-west-2 Root CA") for name in names)


def test_there_is_a_file_for_each_region_but_those_that_the_page_names():
    """The regions of AWS as botocore knows them, but those that only governments may enter."""
    known = {
        region
        for partition in ("aws", "aws-cn", "aws-us-gov", "aws-eusc")
        for region in Session().get_available_regions("rds", partition)
        if not region.startswith("fips-")
    }
    page = (REPOSITORY / "docs" / "configuration.md").read_text()
    [said] = re.findall(r"no file for (.*?):", page.replace("\n", " "))
    missing = set(re.findall(r"`([a-z]+(?:-[a-z]+)+-\d)`", said))
    assert {path.stem for path in FILES} == known - missing
    assert missing < known


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_certificates_are_roots_of_their_region_for_decades(path: Path):
    found = certificates(path)
    assert len(found) == 3
    for certificate in found:
        assert common_name(certificate).startswith(f"Amazon RDS {path.stem} Root CA ")
        assert certificate["subject"] == certificate["issuer"]
        assert int(certificate["notAfter"].split()[3]) > 2060


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_certificates_are_authorities_and_signed_by_themselves(path: Path):
    for certificate in x509.load_pem_x509_certificates(path.read_bytes()):
        basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
        assert basic.value.ca
        assert (
            certificate.not_valid_before_utc < datetime.now(UTC) < certificate.not_valid_after_utc
        )
        certificate.verify_directly_issued_by(certificate)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_says_where_it_is_from_and_what_is_in_it(path: Path):
    comments = [line for line in path.read_text().splitlines() if line.startswith("# ")]
    names = [common_name(each) for each in certificates(path)]
    said = [line.split(",")[0].removeprefix("# ") for line in comments if ", valid until" in line]
    assert sorted(said) == sorted(names)
    assert comments[0].startswith(f"# Amazon RDS roots of {path.stem}, from")
    assert any("https://" in line for line in comments)
    if not any(OF_THE_SCRIPT in line for line in comments):
        # What no package vouches for has two sources, or a hash that its source publishes.
        sources = [line for line in comments if "https://github.com/" in line]
        hashes = [line for line in comments if re.fullmatch(r"# [0-9a-f]{64}", line)]
        assert len(sources) >= 2 or hashes


def test_files_are_what_the_script_writes(tmp_path: Path):
    again = tmp_path / "again"
    subprocess.run(["node", REPOSITORY / "tools" / "rds-ca.mjs", again], check=True)
    assert {path.name: path.read_text() for path in again.iterdir()} == {
        path.name: path.read_text() for path in FILES if OF_THE_SCRIPT in path.read_text()
    }


def test_the_script_leaves_the_other_files_alone(tmp_path: Path):
    other = tmp_path / "xx-north-1.pem"
    other.write_text("# of another source")
    subprocess.run(["node", REPOSITORY / "tools" / "rds-ca.mjs", tmp_path], check=True)
    assert other.read_text() == "# of another source"
    assert (tmp_path / "eu-west-2.pem").exists()
