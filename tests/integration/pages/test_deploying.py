"""What docs/deploying.md tells people to do: its role can do what is needed, and no more."""

from __future__ import annotations

import re
from contextlib import closing
from pathlib import Path

import pytest
import yaml
from pg8000.native import DatabaseError, identifier, literal

from local.totesys.database import ADMIN, PASSWORD
from services.ingestion import ingest
from services.reconciliation import reconcile
from shared.errors import IngestionError, SourceError
from shared.postgres.credentials import Credentials
from shared.postgres.session import connect, disconnect
from shared.tables import TABLES
from tests.helpers.oracle import landed
from tests.helpers.oracle.pages import ROOT, blocks, page, section

pytestmark = pytest.mark.thorough

GUIDE, OPERATING = page("docs/deploying.md"), page("docs/operating.md")
CREATE, DROP = (
    [statement.strip() for statement in block.split(";") if statement.strip()]
    for block in blocks(GUIDE, "sql")
)
[SECRET] = blocks(GUIDE, "json")
# A table that was added needs what docs/operating.md says first.
[GRANT] = re.findall(r"`(GRANT SELECT ON x TO .*?);`", section(OPERATING, "Add a table"))
[GRANTED] = re.findall(r"GRANT SELECT ON (.*?) TO", " ".join(CREATE), re.DOTALL)
CREATE += [
    GRANT.replace(" x ", f" {identifier(table)} ")
    for table in TABLES
    if table not in re.findall(r"\w+", GRANTED)
]
ROLE = "totesys_ingestion"
MASTER = "totesys_master"


def test_the_parameters_it_names_are_those_of_serverless_yml():
    named = set(re.findall(r'--param="(\w+)=', GUIDE.replace('"name=value"', "")))
    named |= set(re.findall(r"`([a-z]+[A-Z]\w+)`", GUIDE))
    named |= set(re.findall(r"\b([a-z]+[A-Z]\w+): ", GUIDE))
    params = set(yaml.safe_load((ROOT / "serverless.yml").read_text())["params"]["default"])
    assert {"createBucket", "alarmEmail", "subnetIds", "databaseCaFile"} <= named <= params


class Source:
    """Totesys, for a user who follows the guide."""

    def __init__(self, totesys, user=ADMIN):
        self.totesys, self.user = totesys, user

    def execute(self, *statements):
        with closing(self.totesys.connect(self.user)) as connection:
            for statement in statements:
                here = f"DATABASE {identifier(self.totesys.name)} "
                connection.run(statement.replace("DATABASE totesys ", here))

    def ask(self, sql):
        with closing(self.totesys.connect(self.user)) as connection:
            return connection.run(sql)

    def session(self):
        """Open one with the guide's secret, but for where the server is."""
        said = Credentials.from_secret("prod/totesys", SECRET)
        where = {name: self.totesys.secret[name] for name in ("host", "port", "dbname")}
        return connect(
            Credentials(**where, username=said.username, password=said.password), Path(), 10
        )

    def ingest(self, bucket, tables=TABLES):
        connection = self.session()
        try:
            return ingest(tables, bucket.client, connection, bucket.name)
        finally:
            disconnect(connection)


@pytest.fixture
def source(totesys):
    source = Source(totesys)
    # Nobody has anything unasked, as on a server that was set up by a careful person.
    source.execute(
        f"REVOKE ALL ON DATABASE {identifier(totesys.name)} FROM PUBLIC",
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
    )
    yield source
    if source.ask(f"SELECT FROM pg_roles WHERE rolname = '{ROLE}'"):
        source.execute(*DROP)


def test_the_role_is_enough_to_ingest_and_to_reconcile(source, bucket, log_lines):
    source.execute(*CREATE)
    source.ingest(bucket)
    source.execute("UPDATE payment SET paid = NOT paid WHERE payment_id = 1")
    source.execute("SELECT pg_stat_force_next_flush()")
    source.ingest(bucket)
    for table in TABLES:
        connection = source.session()
        found = reconcile(table, bucket.client, connection, bucket.name, with_changes=True)
        disconnect(connection)
        assert len(found.missing) == len(found.deleted) == len(found.faults) == 0
        assert found.rows_landed == len(landed.ids(bucket, table)) > 0
    assert {line["level"] for line in log_lines()} == {"INFO"}


def test_the_role_can_read_the_tables_that_are_ingested_and_do_nothing_else(source):
    source.execute(*CREATE)
    privileges = source.ask(
        f"""
        SELECT relname, string_agg(privilege, ',') FROM pg_class,
            unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE']) AS privilege
        WHERE relnamespace = 'public'::regnamespace AND relkind = 'r'
            AND has_table_privilege('{ROLE}', oid, privilege)
        GROUP BY relname
        """
    )
    assert dict(privileges) == dict.fromkeys(TABLES, "SELECT")
    [[can]] = source.ask(f"SELECT has_schema_privilege('{ROLE}', 'public', 'CREATE')")
    assert not can


@pytest.mark.parametrize(
    ("grant", "lacks"),
    [
        ("GRANT CONNECT", "42501.*CONNECT on the database"),
        ("GRANT USAGE", "lacks USAGE on its schema"),
        ("GRANT SELECT", "42501.*SELECT on the table"),
    ],
)
def test_without_any_of_the_grants_the_error_says_what_is_missing(source, bucket, grant, lacks):
    left = [statement for statement in CREATE if not statement.startswith(grant)]
    assert len(left) < len(CREATE)
    source.execute(*left)
    with pytest.raises((SourceError, IngestionError), match=lacks):
        source.ingest(bucket)
    assert list(bucket.keys("payment/")) == []


def test_a_table_that_may_not_be_read_is_named(source, bucket):
    source.execute(*CREATE)
    for table in TABLES:
        source.execute(f"REVOKE SELECT ON {identifier(table)} FROM {ROLE}")
        with pytest.raises(IngestionError, match=rf"Reading '{table}'.*SELECT on the table"):
            source.ingest(bucket, [table])
        source.execute(f"GRANT SELECT ON {identifier(table)} TO {ROLE}")


def test_a_forgotten_grant_fails_that_table_only_and_says_what_to_do(source, bucket):
    source.execute(*CREATE, f"REVOKE SELECT ON {identifier(TABLES[0])} FROM {ROLE}")
    with pytest.raises(IngestionError) as failed:
        source.ingest(bucket)
    assert list(failed.value.failures) == [TABLES[0]]
    [said] = re.findall(r"`(permission denied.*?)`", section(OPERATING, "Add a table"))
    assert said.replace("table x", f"table {TABLES[0]}") in str(failed.value)
    assert all(landed.ids(bucket, table) for table in TABLES[1:])


def test_the_role_can_be_taken_away_again(source):
    source.execute(*CREATE)
    source.execute(*DROP)
    assert source.ask(f"SELECT FROM pg_roles WHERE rolname = '{ROLE}'") == []


@pytest.fixture
def master(source):
    """A master user like that of RDS: it owns the tables, may create roles, is no superuser."""
    database = identifier(source.totesys.name)
    tables = [identifier(table) for table in TABLES]
    source.execute(
        f"CREATE ROLE {MASTER} LOGIN CREATEROLE PASSWORD {literal(PASSWORD)}",
        f"ALTER DATABASE {database} OWNER TO {MASTER}",
        f"ALTER SCHEMA public OWNER TO {MASTER}",
        *(f"ALTER TABLE {table} OWNER TO {MASTER}" for table in tables),
    )
    yield Source(source.totesys, MASTER)
    if source.ask(f"SELECT FROM pg_roles WHERE rolname = '{ROLE}'"):
        source.execute(*DROP)
    source.execute(
        f"REASSIGN OWNED BY {MASTER} TO CURRENT_USER",
        f"DROP OWNED BY {MASTER}",
        f"DROP ROLE {MASTER}",
    )


def test_on_rds_nobody_is_superuser(master, source, bucket):
    [[is_superuser]] = master.ask("SELECT rolsuper FROM pg_roles WHERE rolname = CURRENT_USER")
    assert not is_superuser
    master.execute(*CREATE)
    assert source.ingest(bucket)
    master.execute(*DROP)
    assert source.ask(f"SELECT FROM pg_roles WHERE rolname = '{ROLE}'") == []


def test_the_role_is_not_dropped_without_being_a_member_of_it(master):
    master.execute(*CREATE)
    grant, *rest = DROP
    assert grant.startswith("GRANT ")
    with pytest.raises(DatabaseError, match="42501"):
        master.execute(*rest)
