"""What `make doctor` says of a secret and a database: every fault, and that its remedy works."""

from __future__ import annotations

import json
import subprocess
import tempfile
from contextlib import ExitStack, closing
from pathlib import Path

import pytest
import yaml
from pg8000.native import identifier

from local import REPOSITORY
from local.totesys.database import Server
from tests.helpers.cases import one_in
from tests.helpers.faults.listening import listening
from tests.helpers.faults.pgbouncer import PGBOUNCER, PORT, pgbouncer
from tests.helpers.faults.pooler import Pooler
from tests.helpers.runs.doctoring import assert_says, checked, checked_source, statements
from tests.helpers.servers import only_in_the_wheel
from tests.helpers.tls.certificates import DAY, Authority
from tests.helpers.tls.front import tls_front
from tools import declared
from tools.checks import rights
from tools.checks.check import Outcome

pytestmark = pytest.mark.thorough

FAILED, WARNING, SKIPPED = Outcome.FAILED, Outcome.WARNING, Outcome.SKIPPED
# What belongs to the role, and not to the database of a test.
UNDO = (
    "ALTER ROLE reader NOBYPASSRLS CONNECTION LIMIT -1",
    "ALTER ROLE reader RESET search_path",
)
IDLE = "idle_in_transaction_session_timeout"


class Place:
    """A stage before its first deployment: its secret and its database are there."""

    def __init__(self, totesys, secrets):
        self.totesys = totesys
        self.stage = totesys.name
        self.secrets = secrets
        self.secret_id = f"{totesys.name}/totesys"
        self.secrets.create_secret(Name=self.secret_id, SecretString=json.dumps(totesys.secret))

    def set_secret(self, **changes):
        self.put(json.dumps(self.totesys.secret | changes))

    def put(self, text):
        self.secrets.put_secret_value(SecretId=self.secret_id, SecretString=text)

    def run(self, *sql):
        with closing(self.totesys.connect()) as connection:
            for each in sql:
                connection.run(each.replace("DATABASE here", f"DATABASE {identifier(self.stage)}"))

    def check(self):
        return checked_source(self.stage)


@pytest.fixture
def place(totesys, aws):
    place = Place(totesys, aws("secretsmanager"))
    place.run(f"ALTER DATABASE here SET {IDLE} = '10min'")
    yield place
    place.run(*UNDO)


def test_with_secret_and_database_all_is_fine_that_is_there_before_a_deployment(place):
    made = checked(place.stage)
    assert made.not_fine == {}
    skipped = made.skipped
    assert skipped.pop("certificate") == "reached by a unix socket, which needs no TLS"
    assert set(skipped.values()) == {"not deployed yet"}
    assert {"stack", "functions", "alarms", "bucket versioning"} < set(skipped)
    assert "PostgreSQL" in made["database"].detail
    assert made["grants"].detail == "CONNECT, USAGE, and SELECT on 11 tables"
    assert made["bucket"].detail.startswith(f"{place.stage}-ingestion-bucket does not exist yet")


# --- the secret ---


def test_a_key_of_hashes_that_a_contract_needs(place, x_land):
    assert place.check()["hash key"].detail == "no contract needs one"
    x_land("staff", email_address="hash")
    x_land("address", phone="drop")
    assert place.check()["hash key"].detail == "it is there, for staff"
    place.set_secret(hash_key=None)
    made = place.check()
    assert made.not_fine == {"hash key": FAILED}
    assert_says(made["hash key"], "no hash_key.* of staff land", "docs/personal-data.md.*put-sec")
    place.set_secret(hash_key="short")
    made = place.check()
    assert made.not_fine == {"secret form": FAILED}
    assert_says(made["secret form"], "`hash_key` must be", "Store a corrected value")
    assert made["hash key"].detail == "see `secret form`"


@pytest.mark.parametrize(
    ("columns", "forms", "lacks"),
    [
        ("staff_id, last_name, department_id, created_at, last_updated, xmin", "drop", None),
        ("staff_id, last_name, department_id, created_at, last_updated, xmin", "hash", "staff"),
        ("staff_id, last_name, department_id, created_at, xmin", "drop", "staff"),
        ("staff_id, last_name, department_id, created_at, last_updated", "drop", "staff"),
    ],
)
def test_a_role_that_may_not_read_what_is_dropped(place, x_land, columns, forms, lacks):
    x_land("staff", email_address=forms, first_name=forms)
    place.run("REVOKE SELECT ON staff FROM reader", f"GRANT SELECT ({columns}) ON staff TO reader")
    made = place.check()
    assert made.not_fine == ({"grants": FAILED} if lacks else {})
    if lacks:
        assert_says(made["grants"], "no SELECT on staff", "GRANT SELECT")


def test_a_secret_that_is_not_there(place):
    place.secrets.delete_secret(SecretId=place.secret_id, ForceDeleteWithoutRecovery=True)
    made = place.check()
    assert made.not_fine == {"secret": FAILED}
    assert f"--name {place.secret_id} --secret-string" in made["secret"].remedy
    for name in ("secret form", "database", "grants"):
        assert made[name].detail == "see `secret`"


def test_a_secret_that_will_be_deleted(place):
    place.secrets.delete_secret(SecretId=place.secret_id)
    made = place.check()
    assert made.not_fine == {"secret": FAILED}
    assert_says(made["secret"], "will be deleted", f"restore-secret --secret-id {place.secret_id}$")
    place.secrets.restore_secret(SecretId=place.secret_id)
    assert place.check().not_fine == {}


@pytest.mark.parametrize(
    ("text", "found", "remedy"),
    [
        ('{"username": "reader", "password": "p"}', "RDS manages", "read-only role"),
        ('{"user": "reader"}', "`host` must be .*; `dbname` .*; `username` .*; `port`", "Store a"),
        ('{"host": "h", "port": 0, "dbname": "d", "username": "u", "password": "p"}', "`port`", ""),
        ("reader's password", "is not a JSON object", "It must hold host, port"),
    ],
    ids=["of RDS", "keys", "port", "text"],
)
def test_a_secret_of_another_form(place, text, found, remedy):
    place.put(text)
    made = place.check()
    assert made.not_fine == {"secret form": FAILED}
    assert_says(made["secret form"], found, remedy)
    assert made["database"].detail == "see `secret form`"
    place.set_secret()
    assert place.check().not_fine == {}


def test_a_secret_without_a_value(place, aws):
    place.secrets.delete_secret(SecretId=place.secret_id, ForceDeleteWithoutRecovery=True)
    place.secrets.create_secret(Name=place.secret_id)
    made = place.check()
    assert made.not_fine == {"secret form": FAILED}
    assert "staging label" in made["secret form"].detail


def test_a_rotation_that_did_not_end(place):
    place.secrets.put_secret_value(
        SecretId=place.secret_id, SecretString="{}", VersionStages=["AWSPENDING"]
    )
    made = place.check()
    assert made.not_fine == {"secret rotation": WARNING}
    assert "rotate-secret" in made["secret rotation"].remedy


# --- reaching the database ---


@pytest.mark.parametrize(
    ("changes", "found", "remedy"),
    [
        ({"password": "wrong"}, 'password authentication failed.*"reader"', "right username and p"),
        ({"dbname": "nowhere"}, 'database "nowhere" does not exist', "right dbname"),
        ({"host": "127.0.0.1", "port": 9}, "127.0.0.1:9 does not answer", "Check that it runs"),
    ],
    ids=["password", "dbname", "address"],
)
def test_a_database_that_refuses_or_does_not_answer(place, changes, found, remedy):
    place.set_secret(**changes)
    made = place.check()
    assert made.not_fine == {"database": FAILED}
    assert_says(made["database"], found, remedy)
    assert made["grants"].detail == made["certificate"].detail == "see `database`"


def test_a_role_that_may_not_connect(place):
    place.run("REVOKE CONNECT ON DATABASE here FROM PUBLIC")
    made = place.check()
    assert made.not_fine == {"database": FAILED}
    assert_says(made["database"], "permission denied for database", "CONNECT on the database")


@pytest.fixture
def parameters(place, monkeypatch, tmp_path):
    """Put parameters into serverless.yml, under the stage, as docs/deploying.md says."""

    def put(**given):
        config = yaml.safe_load((REPOSITORY / "serverless.yml").read_text())
        config["params"][place.stage] = given
        (tmp_path / "serverless.yml").write_text(yaml.safe_dump(config))

    (tmp_path / "services").mkdir()
    text = (REPOSITORY / "services/environment.yml").read_text()
    (tmp_path / "services/environment.yml").write_text(text)
    put()
    monkeypatch.setattr(declared, "REPOSITORY", tmp_path)
    return put


def test_a_database_in_a_vpc_is_not_reached_from_everywhere(place, parameters):
    parameters(subnetIds="subnet-1", securityGroupIds="sg-1")
    place.set_secret(host="127.0.0.1", port=9)
    made = place.check()
    assert made.not_fine == {}
    assert made["database"].outcome is made["grants"].outcome is SKIPPED
    assert_says(made["database"], "is in a VPC", f"make ingest STAGE={place.stage}")
    assert made["grants"].detail == made["database"].detail


def test_what_a_server_in_a_vpc_refuses_is_no_matter_of_the_vpc(place, parameters):
    parameters(subnetIds="subnet-1", securityGroupIds="sg-1")
    place.set_secret(password="wrong")
    assert place.check().not_fine == {"database": FAILED}
    place.set_secret()
    place.run("ALTER ROLE reader CONNECTION LIMIT 0")
    made = place.check()
    assert made.not_fine == {"database": FAILED}
    assert "too many connections for role" in made["database"].detail


def test_half_a_vpc(place, parameters):
    parameters(subnetIds="subnet-1")
    made = place.check()
    assert made.not_fine == {"settings": FAILED}
    assert "Set both" in made["settings"].remedy


def test_a_value_that_only_sls_can_resolve(place, parameters):
    parameters(databaseSecret="${ssm:/totesys/secret}")
    made = place.check()
    assert made.not_fine == {"settings": FAILED}
    assert_says(made["settings"], "Only `sls` can resolve DB_SECRET_ID", "Write the values")


# --- certificates ---


@pytest.fixture(scope="module")
def lasting(tmp_path_factory):
    """An authority that is valid for a year."""
    return Authority(tmp_path_factory.mktemp("lasting"), "lasting", ends=365 * DAY)


@pytest.fixture
def front(place, parameters):
    """Let the secret lead to a front with a certificate."""
    upstream = f"{place.totesys.secret['host']}/.s.PGSQL.{place.totesys.secret['port']}"
    with ExitStack() as stack:

        def reach(certificate, authority, answer=b"S"):
            parameters(databaseCaFile=str(authority.file))
            port = stack.enter_context(tls_front(upstream, certificate, answer)).port
            place.set_secret(host="localhost", port=port)
            return place.check()

        yield reach


def test_a_certificate_that_lasts(front, lasting):
    made = front(lasting.issue("localhost", ends=200 * DAY), lasting)
    assert made.not_fine == {}
    assert made["certificate"].detail.startswith("verified, until ")


def test_a_certificate_that_expires_soon(front, lasting):
    made = front(lasting.issue("localhost", ends=80 * DAY), lasting)
    assert made.not_fine == {"certificate": WARNING}
    assert_says(made["certificate"], "expires on 20", "Renew it")


def test_an_authority_that_expires_soon(front, tmp_path):
    leaving = Authority(tmp_path, "leaving", ends=80 * DAY)
    made = front(leaving.issue("localhost", ends=200 * DAY), leaving)
    assert made.not_fine == {"certificate authorities": WARNING}
    assert_says(made["certificate authorities"], "expires on 20", "newer certificates")


@pytest.mark.parametrize(
    ("name", "ends", "found"),
    [("localhost", -1, "certificate has expired"), ("db.example.com", 200, "mismatch")],
)
def test_a_certificate_that_is_not_valid(front, lasting, name, ends, found):
    made = front(lasting.issue(name, ends=ends * DAY), lasting)
    assert made.not_fine == {"database": FAILED}
    assert_says(made["database"], f"can't be trusted: .*{found}", "valid certificate")
    assert made["certificate"].detail == "see `database`"


def test_a_certificate_of_an_authority_that_is_not_in_the_file(front, lasting, tmp_path):
    made = front(Authority(tmp_path, "theirs").issue("localhost"), lasting)
    assert made.not_fine == {"database": FAILED}
    assert_says(made["database"], "unable to get local issuer", "databaseCaFile")


def test_a_server_without_tls(front, lasting):
    made = front(None, lasting, answer=b"N")
    assert made.not_fine == {"database": FAILED}
    assert_says(made["database"], "offers no TLS", "Turn `ssl` on")


@pytest.mark.parametrize("text", [None, "", "no certificate"], ids=["missing", "empty", "text"])
def test_a_ca_file_without_certificates(place, parameters, tmp_path, text):
    file = tmp_path / "ca.pem"
    if text is not None:
        file.write_text(text)
    parameters(databaseCaFile=str(file))
    made = place.check()
    assert made.not_fine == {"certificate authorities": FAILED}
    assert "databaseCaFile" in made["certificate authorities"].remedy


# --- the server ---


@pytest.mark.parametrize("version", ["12.22", "9.6.24"])
def test_a_server_that_is_too_old(place, version):
    pooler = Pooler([place.totesys.connect("reader")], server_version=version)
    with listening(Pooler.PORT, pooler.serve) as host:
        place.set_secret(host=host, port=Pooler.PORT)
        made = place.check()
    assert made.not_fine == {"database": FAILED}
    assert_says(made["database"], f"is version {version}", "13 or newer: upgrade it")


@only_in_the_wheel()
def test_a_standby(place, server):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        backup = Path(folder, "standby")
        source = ("-h", server.host, "-p", str(server.port), "-U", "postgres")
        command = [server.binary("pg_basebackup"), *source, "-D", backup, "-R", "-c", "fast"]
        subprocess.run(command, check=True)
        with Server.start(backup) as standby:
            place.put(json.dumps(standby.secret(place.totesys.name)))
            made = place.check()
    assert made["primary"].outcome is FAILED
    assert_says(made["primary"], "it is a standby", "endpoint of the primary")


def test_a_pooler_that_pools_by_transaction(place):
    sessions = [place.totesys.connect("reader") for _ in range(3)]
    with listening(Pooler.PORT, Pooler(sessions).serve) as host:
        place.set_secret(host=host, port=Pooler.PORT)
        made = place.check()
    assert made["pooler"].outcome is FAILED
    assert_says(made["pooler"], "another backend", "pool by session")


@pytest.mark.skipif(not PGBOUNCER, reason="PgBouncer is not installed")
@pytest.mark.parametrize(("pool_mode", "found"), [("transaction", FAILED), ("session", Outcome.OK)])
def test_a_real_pooler(place, pool_mode, found):
    with pgbouncer(place.totesys, pool_mode) as host:
        place.set_secret(host=host, port=PORT)
        made = place.check()
    assert made["pooler"].outcome is found
    assert set(made.not_fine) <= {"pooler"}


# --- what the role may do ---

# Each fault, and the check that finds it; the statements that it says to run must repair it.
FAULTS = {
    "SELECT of two tables": (
        "REVOKE SELECT ON payment, staff FROM reader",
        ("grants", FAILED, "no SELECT on payment, staff", 'GRANT SELECT ON "payment", "staff" TO'),
    ),
    "USAGE": (
        "REVOKE USAGE ON SCHEMA public FROM PUBLIC",
        ("grants", FAILED, "no USAGE on the schema public", "GRANT USAGE ON SCHEMA"),
    ),
    "another schema": (
        "CREATE SCHEMA sales; GRANT USAGE ON SCHEMA sales TO reader;"
        "ALTER TABLE staff SET SCHEMA sales; ALTER TABLE payment SET SCHEMA sales",
        ("grants", FAILED, "payment is in sales, .*; staff is in sales", "SET search_path = .*, "),
    ),
    "row-level security": (
        "ALTER TABLE staff ENABLE ROW LEVEL SECURITY",
        ("row-level security", FAILED, "some rows of staff may be hidden", "BYPASSRLS"),
    ),
    "a policy that hides nothing": (
        "ALTER TABLE staff ENABLE ROW LEVEL SECURITY;"
        "CREATE POLICY all_of_it ON staff TO reader USING (true)",
        ("row-level security", FAILED, "some rows of staff may be hidden", "DISABLE ROW LEVEL"),
    ),
    "no primary key": (
        "ALTER TABLE payment DROP CONSTRAINT payment_pkey",
        ("id columns", FAILED, "payment_id is not unique", "ADD UNIQUE"),
    ),
    "an index that is partial": (
        "ALTER TABLE payment DROP CONSTRAINT payment_pkey;"
        "CREATE UNIQUE INDEX ON payment (payment_id) WHERE payment_id > 0;"
        "CREATE UNIQUE INDEX ON payment (payment_id, created_at)",
        ("id columns", FAILED, "payment_id is not unique", "ADD UNIQUE"),
    ),
    "ids that may be NULL": (
        "ALTER TABLE payment DROP CONSTRAINT payment_pkey, ALTER payment_id DROP NOT NULL;"
        "CREATE UNIQUE INDEX ON payment (payment_id)",
        ("id columns", FAILED, "payment_id may be NULL", "SET NOT NULL"),
    ),
    "CACHE": (
        "ALTER SEQUENCE payment_payment_id_seq CACHE 20",
        ("sequences", FAILED, "payment: its sequence has CACHE 20", "CACHE 1"),
    ),
    "CYCLE": (
        "ALTER SEQUENCE payment_payment_id_seq CYCLE",
        ("sequences", FAILED, "payment: its sequence cycles", "NO CYCLE"),
    ),
    "descending, in two tables": (
        "ALTER SEQUENCE payment_payment_id_seq INCREMENT -1;"
        "ALTER SEQUENCE staff_staff_id_seq INCREMENT -2",
        ("sequences", FAILED, "payment: .* descends by 1; staff: .* descends by 2", "INCREMENT 1"),
    ),
    "no sequence": (
        "ALTER TABLE payment ALTER payment_id DROP DEFAULT; DROP SEQUENCE payment_payment_id_seq",
        ("sequences", FAILED, "payment: its ids are not drawn from a sequence", "AS IDENTITY"),
    ),
    "ids of which most are used": (
        "INSERT INTO payment_type VALUES (2000000000, 'SALES_REFUND', now(), now())",
        ("room for ids", WARNING, "payment_type has used 93% of its ids", "TYPE bigint"),
    ),
    "a sequence that ends soon": (
        "ALTER SEQUENCE payment_payment_id_seq MAXVALUE 380",
        ("room for ids", WARNING, "payment has used 8.% of its ids", "AS bigint"),
    ),
    "no limit of forgotten transactions": (
        f"ALTER DATABASE here RESET {IDLE}",
        ("idle transactions", WARNING, "forgotten transaction", "A hint: ALTER DATABASE"),
    ),
    "a limit of the role": (
        "ALTER ROLE reader CONNECTION LIMIT 3",
        ("connections", WARNING, "the role reader has 1 of 3 sessions", "ALTER ROLE"),
    ),
    "a limit of the database": (
        "ALTER DATABASE here CONNECTION LIMIT 3",
        ("connections", WARNING, "the database .* has . of 3 sessions", "ALTER DATABASE"),
    ),
}


@pytest.mark.parametrize("fault", one_in(6, FAULTS))
def test_a_fault_of_the_database_is_named_and_its_remedy_repairs_it(place, fault):
    inject, (name, outcome, found, remedy) = FAULTS[fault]
    place.run(inject)
    made = place.check()
    assert made.not_fine == {name: outcome}
    assert_says(made[name], found, remedy)
    repairs = statements(made[name])
    assert repairs
    place.run(*repairs)
    assert place.check().not_fine == {}


def test_all_that_a_role_lacks_is_told_at_once(place):
    place.run(
        "REVOKE SELECT ON staff FROM reader",
        "CREATE SCHEMA closed; ALTER TABLE payment SET SCHEMA closed",
        "ALTER TABLE transaction RENAME TO other",
    )
    made = place.check()
    assert made.not_fine == {"grants": FAILED}
    said = made["grants"].detail.split("; ")
    assert said == [
        "no USAGE on the schema closed",
        "there is no table transaction",
        "no SELECT on staff",
    ]
    assert "take it out of shared/tables.py" in made["grants"].remedy


CATALOGUE = {
    "EXECUTE ON FUNCTION pg_current_snapshot()": ("change stream", "pg_current_snapshot"),
    "EXECUTE ON FUNCTION pg_postmaster_start_time()": ("change stream", "postmaster_start_time"),
    "EXECUTE ON FUNCTION pg_relation_filenode(regclass)": ("change stream", "relation_filenode"),
    "SELECT ON pg_stat_archiver": ("change stream", "pg_stat_archiver"),
    "SELECT ON pg_locks": ("open writers", "pg_locks"),
    "SELECT ON pg_stat_activity": ("open writers", "pg_stat_activity"),
    "SELECT ON pg_prepared_xacts": ("open writers", "pg_prepared_xacts"),
}


@pytest.mark.parametrize("right", one_in(6, CATALOGUE))
def test_a_right_that_every_role_has_and_this_one_lacks(place, right):
    check, what = CATALOGUE[right]
    place.run(f"REVOKE {right} FROM PUBLIC")
    made = place.check()
    assert made[check].outcome is FAILED
    assert_says(made[check], f"permission denied for .*{what}", 'GRANT "reader" what is named')
    place.run(f"GRANT {right} TO reader")
    assert place.check().not_fine == {}


def test_a_column_of_ids_that_is_called_differently(place):
    place.run("ALTER TABLE payment RENAME payment_id TO id")
    made = place.check()
    assert made.not_fine == {"id columns": FAILED}
    assert_says(made["id columns"], "no integer column 'payment_id'", "Restore the column")


VIEW = "ALTER TABLE payment RENAME TO base; CREATE VIEW payment AS SELECT * FROM base"


def test_a_view_has_neither_a_change_stream_nor_a_sequence(place, parameters):
    place.run(VIEW)
    made = place.check()
    assert made.not_fine == {"change stream": WARNING, "sequences": WARNING}
    assert_says(made["change stream"], "payment has none", "Name payment in withoutChanges")
    parameters(withoutChanges="payment")
    assert place.check().not_fine == {"sequences": WARNING}


def test_rows_of_another_server(place):
    place.run(
        "CREATE SUBSCRIPTION copies CONNECTION 'host=nowhere' PUBLICATION p"
        " WITH (connect = false, slot_name = NONE)",
        "INSERT INTO pg_subscription_rel SELECT oid, 'payment'::regclass, 'r', NULL"
        " FROM pg_subscription",
    )
    made = place.check()
    place.run("DROP SUBSCRIPTION copies")
    assert made.not_fine == {"sequences": FAILED}
    assert_says(made["sequences"], "logical replication fills it", "on the publisher")
    assert place.check().not_fine == {}


def test_a_clock_that_is_wrong(place):
    """A function of the same name stands for a server whose clock is behind."""
    place.run(
        "CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql"
        " AS $$ SELECT now() - interval '1 hour' $$",
        "ALTER ROLE reader IN DATABASE here SET search_path = public, pg_catalog".replace(
            "DATABASE here", f"DATABASE {identifier(place.stage)}"
        ),
    )
    made = place.check()
    assert made.not_fine == {"database clock": WARNING}
    assert_says(made["database clock"], "60 minutes behind this machine's", "NTP")


def test_what_a_check_did_not_expect_hides_no_other(place, monkeypatch):
    def broken(source):
        raise KeyError("a value of a row")

    monkeypatch.setitem(rights.CHECKS, "grants", broken)
    made = place.check()
    assert made.not_fine == {"grants": FAILED}
    assert_says(made["grants"], "Unexpected KeyError in test_doctor_source.py", "report it")
    assert "value" not in made["grants"].detail
    assert made["row-level security"].outcome is Outcome.OK


def test_nothing_is_written(place):
    place.check()
    written = "SELECT pg_stat_force_next_flush(), sum(n_tup_ins + n_tup_upd + n_tup_del)::int"
    with closing(place.totesys.connect()) as connection:
        before = connection.run(f"{written} FROM pg_stat_user_tables")
        place.check()
        assert connection.run(f"{written} FROM pg_stat_user_tables") == before
