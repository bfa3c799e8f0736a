"""Every password that the server takes logs in, as it does with libpq."""

from __future__ import annotations

import struct
from contextlib import closing, suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pg8000.native import identifier, literal

from shared.errors import SourceError
from shared.postgres.credentials import Credentials
from shared.postgres.session import connect
from tests.helpers.faults.listening import listening
from tests.helpers.servers import since

pytestmark = pytest.mark.thorough

PASSWORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1)


@pytest.fixture(scope="module")
def owner(server):
    """The superuser's session, and the roles to log in with."""
    roles = "accountant", "бухгалтер", "emoji 😀"
    with closing(server.connect()) as session:
        for role in roles:
            session.run(f"CREATE ROLE {identifier(role)} LOGIN")
        yield session
        for role in roles:
            session.run(f"DROP ROLE {identifier(role)}")


def log_in(host, port, role, password):
    credentials = Credentials(host, port, "postgres", role, password)
    with closing(connect(credentials, Path(), 10)) as session:
        [[name]] = session.run("SELECT current_user")
    return name


@given(PASSWORDS)
@example("emoji 😀")
@example("capital sharp s ẞ")
@example("tab\t beside é")
@example("עברית Latin")
@example("עברית")
@example("1 עברית")
@example("ﬁne Ⅸ é é")  # normalized to: fine IX é é
@example("no\u00a0break\u200bspace")
@example("soft\u00adhyphen")
@example("\u00ad")  # nothing is left
@example("\u0340")  # prohibited, but it becomes U+0300, which is not
@example("\u212b")
@settings(max_examples=50)
def test_any_password_logs_in(server, owner, password):
    owner.run(f"ALTER ROLE accountant PASSWORD {literal(password)}")
    assert log_in(server.host, server.port, "accountant", password) == "accountant"


@pytest.mark.parametrize("role", ["бухгалтер", "emoji 😀"])
def test_any_role_logs_in(server, owner, role):
    owner.run(f"ALTER ROLE {identifier(role)} PASSWORD 'é'")
    assert log_in(server.host, server.port, role, "é") == role


def test_a_wrong_password_is_refused_by_the_server(server, owner):
    owner.run("ALTER ROLE accountant PASSWORD 'emoji 😀'")
    with pytest.raises(SourceError, match="28P01"):
        log_in(server.host, server.port, "accountant", "emoji 😁")


@since(16)
def test_a_verifier_with_too_few_iterations_is_named(server, owner):
    owner.run("SET scram_iterations = 1000")
    owner.run("ALTER ROLE accountant PASSWORD 'weak'")
    owner.run("RESET scram_iterations")
    with pytest.raises(SourceError, match=r"can't be proved by SCRAM.* scram_iterations of 4096"):
        log_in(server.host, server.port, "accountant", "weak")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (b"R" + struct.pack("!ii", 8, 7), "Authentication method 7.* pg_hba.conf"),
        (b"R\0\0\0\4", "does not answer as PostgreSQL does"),
        (b"\0\0\0\0\4", "does not answer as PostgreSQL does"),
    ],
)
def test_a_server_that_answers_otherwise_is_named(answer, said):
    def serve(client):
        client.recv(1000)
        client.sendall(answer)
        with suppress(ConnectionResetError):  # it left before it had heard all
            client.recv(1000)

    with listening(5432, serve) as host, pytest.raises(SourceError, match=said):
        log_in(host, 5432, "reader", "anything")
