"""TLS as a real handshake has it: who is no server of ours gets no password, and no plain text."""

from __future__ import annotations

from contextlib import contextmanager

import pytest

from services.ingestion.handler import lambda_handler
from shared.errors import SourceError, SourceUnavailableError
from tests.helpers.oracle import landed
from tests.helpers.runs.lambda_context import CONTEXT
from tests.helpers.tls.certificates import DAY, Authority
from tests.helpers.tls.front import tls_front

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    """The authority in the CA file."""
    return Authority(tmp_path_factory.mktemp("ours"), "ours")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory):
    """One that is not."""
    return Authority(tmp_path_factory.mktemp("theirs"), "theirs")


@pytest.fixture
def reached(deployed, totesys, ours, monkeypatch):
    """Let the secret lead to a front with a certificate, by a host name."""
    monkeypatch.setenv("DB_CA_FILE", str(ours.file))
    upstream = f"{totesys.secret['host']}/.s.PGSQL.{totesys.secret['port']}"

    @contextmanager
    def reach(certificate, host="localhost", answer=b"S"):
        with tls_front(upstream, certificate, answer) as front:
            deployed(host=host, port=front.port)
            yield front

    return reach


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_the_right_certificate_is_accepted(reached, ours, bucket, host):
    with reached(ours.issue(host), host) as front:
        lambda_handler({"tables": ["staff"]}, CONTEXT)
    assert front.versions == ["TLSv1.3"]
    assert landed.ids(bucket, "staff")


def refused(front, match, error=SourceError):
    with pytest.raises(error, match=match) as failure:
        lambda_handler({}, CONTEXT)
    assert type(failure.value) is error
    assert front.versions == []


@pytest.mark.parametrize(
    ("name", "host"),
    [("db.example.com", "localhost"), ("localhost", "127.0.0.1")],
)
def test_a_certificate_of_another_name_is_refused(reached, ours, name, host):
    with reached(ours.issue(name), host) as front:
        refused(front, f"can't be trusted: .* mismatch, .*'{host}'.* for this host name")


def test_an_expired_certificate_is_refused(reached, ours):
    with reached(ours.issue("localhost", ends=-DAY)) as front:
        refused(front, "can't be trusted: certificate has expired. It needs a valid certificate")


def test_a_certificate_of_an_unknown_authority_is_refused(reached, theirs):
    with reached(theirs.issue("localhost")) as front:
        refused(front, "can't be trusted: unable to get local issuer.* databaseCaFile")


def test_a_server_that_offers_no_tls_is_refused_and_told_nothing(reached):
    with reached(None, answer=b"N") as front:
        refused(front, "offers no TLS. Turn `ssl` on in the server")
    assert front.plain == b""


def test_plain_text_behind_the_yes_is_not_taken_for_the_servers(reached, ours):
    """Somebody in the middle, who can't speak as the server, speaks before it does."""
    with reached(ours.issue("localhost"), answer=b"SR\0\0\0\x08\0\0\0\0") as front:
        refused(front, "can't be trusted: WRONG_VERSION_NUMBER")


def test_a_server_that_breaks_off_in_the_handshake_is_worth_another_try(reached):
    with reached(None, answer=b"S") as front:
        refused(front, "does not answer", SourceUnavailableError)
