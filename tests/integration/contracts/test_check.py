"""The contracts and a real Totesys, how new ones are made, and runs without one to be used."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from benchmarks import cost
from local.cloudwatch.log_filters import matches
from local.totesys.database import HASH_KEY
from services.ingestion import ingest
from services.ingestion.new_rows import read_new_rows
from shared.contracts import contract as contracts
from shared.contracts.check import violations
from shared.contracts.contract import parse
from shared.contracts.schema import POSTGRESQL_TYPE, nullable
from shared.errors import ConfigError, IngestionError, SourceError
from shared.tables import TABLES, Table
from tests.helpers.faults.stage_faults import BAD_ORDER
from tests.helpers.oracle import landed
from tests.helpers.oracle.cloudwatch import metric_filters
from tests.helpers.oracle.contracts import broken_rows, contract_of, document
from tests.helpers.oracle.pages import PAGES
from tests.helpers.runs.place import Place
from tests.helpers.writers import pg_types
from tools.contract import kept_forms, main, make, write

pytestmark = pytest.mark.thorough

ROOT = Path(__file__).resolve().parents[3]

ODD = """
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"');
CREATE DOMAIN code AS varchar(4);
CREATE TABLE odd (
    odd_id bigserial PRIMARY KEY, small smallint, big bigint NOT NULL, amount numeric, ratio float8,
    flag boolean NOT NULL, mood mood, mood_there mood NOT NULL, code code, name varchar(3) NOT NULL,
    letters char(3), born date, day text, "e mail" text, at timestamp, at_utc timestamptz NOT NULL,
    tags text[], info json, more jsonb NOT NULL, raw bytea, pause interval, address inet
);
INSERT INTO odd (
    small, big, amount, ratio, flag, mood, mood_there, code, name, letters, born, day, "e mail", at,
    at_utc, tags, info, more, raw, pause, address
) VALUES
(-32768, -9223372036854775808, 3.10, 1e300, true, 'sad', 'it''s "ok"', 'abcd', 'é', 'a',
 '2024-02-29', '2024-02-29', 'é.b@c.example', '0001-01-01', '9999-12-31 23:59:59.999999+00',
 '{a,NULL}', ' [1, {"a": 2}]', '[null]', '\\x00', '1 day', '10.0.0.1/8'),
(NULL, 9223372036854775807, NULL, NULL, false, NULL, 'sad', NULL, '', NULL, NULL, NULL, NULL, NULL,
 now(), NULL, NULL, '"text"', NULL, NULL, NULL)
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder of contracts of a test's own, empty."""
    monkeypatch.setattr(contracts, "FOLDER", tmp_path)
    contracts.load.cache_clear()
    yield tmp_path
    contracts.load.cache_clear()


def run(database, bucket, tables):
    reader = database.connect("reader")
    return ingest(tables, bucket.client, reader, bucket.name, hash_key=HASH_KEY)


def levels(log_lines):
    return [line["level"] for line in log_lines() if line["level"] != "INFO"]


@pytest.mark.parametrize("table", TABLES)
def test_our_contract_was_made_of_the_real_table(totesys, table):
    made = parse("made", make(table, totesys.connect()))
    ours = contract_of(table)
    assert list(ours) == list(made)
    for column, rules in made.items():
        assert ours[column][POSTGRESQL_TYPE] == rules[POSTGRESQL_TYPE]
        assert nullable(ours[column]) == nullable(rules)
        # People add to what was found; only bounds and patterns become narrower.
        assert ours[column].keys() >= rules.keys()


def test_every_landed_line_is_as_its_contract_says_to_any_validator(totesys, bucket):
    run(totesys, bucket, TABLES)
    for table in TABLES:
        schema_of_a_line = document(contracts.landed(contract_of(table)))
        lines = [
            line
            for key in landed.data_keys(bucket, table)
            for line in landed.body(bucket, key).splitlines()
        ]
        assert lines
        assert broken_rows(schema_of_a_line, lines) == {}


def test_a_contract_is_made_of_any_table(database):
    connection = database.connect()
    connection.run(ODD)
    text = make("odd", connection)
    document = json.loads(text)
    Draft202012Validator.check_schema(document)
    contract = document["properties"]
    batch = read_new_rows(Table("odd"), 0, connection)
    assert violations(parse("odd", text), batch) == []
    assert contract["odd_id"] == {POSTGRESQL_TYPE: "bigint", "type": "integer", "minimum": 1}
    assert contract["small"]["type"] == ["integer", "null"]
    assert (contract["small"]["minimum"], contract["small"]["maximum"]) == (-32768, 32767)
    assert contract["amount"] == {POSTGRESQL_TYPE: "numeric", "type": ["number", "null"]}
    assert contract["flag"] == {POSTGRESQL_TYPE: "boolean", "type": "boolean"}
    assert contract["mood"]["enum"] == ["sad", 'it\'s "ok"', None]
    assert contract["mood_there"]["enum"] == ["sad", 'it\'s "ok"']
    assert contract["code"] == {POSTGRESQL_TYPE: "code", "type": ["string", "null"]}
    assert contract["name"]["maxLength"] == contract["letters"]["maxLength"] == 3
    assert contract["born"]["pattern"] == contract["day"]["pattern"]
    assert "@" in contract["e mail"]["pattern"]
    assert contract["at"]["maxLength"] == 26
    assert contract["at_utc"]["maxLength"] == 32
    assert contract["tags"]["type"] == ["array", "null"]
    assert "null" in contract["info"]["type"]
    assert text.count("\n") == len(contract) + 9  # a line a column: to be read, and to be diffed


# What a schema may say of a value, by what the value lands as; of JSON its own type decides.
LANDS_AS = {"number": {"integer", "number"}, "float": {"number"}, "text": {"string"}}
NAMED_LIKE_OTHERS = """
CREATE TYPE public."date" AS ENUM ('monday');
CREATE TYPE public."numeric" AS (number integer);
CREATE DOMAIN public."float8" AS text;
"""
MORE_TYPES = {
    "numeric(3,1)": {"integer", "number"},
    "numeric(3,-2)": {"integer", "number"},
    'public."date"': {"string"},
    'public."numeric"': {"string"},
    'public."float8"': {"string"},
    "xml": {"string"},
    "jsonpath": {"string"},
    "regclass": {"string"},
    "box": {"string"},
    "name[]": {"array"},
    "numeric(3,1)[][]": {"array"},
}


def test_a_column_of_any_type_gets_a_schema(database):
    connection = database.connect()
    connection.run(pg_types.SCHEMA)
    connection.run(NAMED_LIKE_OTHERS)
    expected = {type_.name: LANDS_AS.get(type_.lands_as) for type_ in pg_types.TYPES} | MORE_TYPES
    columns = ", ".join(f"c{number} {name}" for number, name in enumerate(expected))
    connection.run(f"CREATE TABLE wide (wide_id serial, {columns})")
    connection.run("INSERT INTO wide DEFAULT VALUES")
    dated = f"c{[*expected].index('public."date"')}"
    connection.run(f"INSERT INTO wide ({dated}) VALUES ('monday')")
    text = make("wide", connection)
    Draft202012Validator.check_schema(json.loads(text))
    contract = parse("wide", text)
    for number, (name, types) in enumerate(expected.items()):
        said = contract[f"c{number}"]["type"]
        assert said[-1] == "null", name
        assert types is None or {*said[:-1]} <= types, name
    assert violations(contract, read_new_rows(Table("wide"), 0, connection)) == []


def test_a_domain_over_an_enum_has_its_labels(database):
    connection = database.connect()
    connection.run(pg_types.SCHEMA)
    connection.run("CREATE DOMAIN mood__ AS mood_")
    connection.run("CREATE TABLE moods (moods_id serial, mood mood_ NOT NULL, other mood__)")
    contract = parse("moods", make("moods", connection))
    assert contract["mood"]["enum"][:3] == ["", "glad", "NULL"]
    assert contract["other"]["enum"] == [*contract["mood"]["enum"], None]


def test_of_an_empty_table_a_contract_has_what_the_catalogue_says(database):
    connection = database.connect()
    connection.run("CREATE TABLE bare (bare_id serial, day text)")
    contract = parse("bare", make("bare", connection))
    assert contract["day"] == {POSTGRESQL_TYPE: "text", "type": ["string", "null"]}


def test_what_was_edited_is_not_overwritten(folder):
    text = (ROOT / "shared/contracts/currency.json").read_text()
    path = write("currency", text, force=False)
    write("currency", text, force=False)
    edited = text.replace("2147483647", "3")
    path.write_text(edited)
    with pytest.raises(FileExistsError, match=r"currency\.json exists and differs.*--force"):
        write("currency", text, force=False)
    assert path.read_text() == edited
    write("currency", text, force=True)
    assert path.read_text() == text


def test_a_contract_that_is_made_anew_keeps_how_columns_land(totesys, x_land):
    forms = {"email_address": "hash", "first_name": "drop"}
    x_land("staff", **forms)
    assert main(["staff", "--force"]) == 0
    path = contracts.FOLDER / "staff.json"
    made = parse(path.name, path.read_text())
    assert contracts.land_forms(made) == forms
    assert list(made) == list(contract_of("staff"))
    again = make("staff", totesys.connect(), kept_forms("staff"))
    assert again == path.read_text()


def test_a_contract_is_not_made_anew_where_a_personal_column_is_missing(totesys, x_land):
    forms = {"e_mail": "hash", "phone": "drop", "district": "hash"}
    with pytest.raises(
        SourceError, match=r"'address' has no column 'e_mail', of which address\.js"
    ):
        make("address", totesys.connect(), forms)


def test_to_make_a_contract_no_dropped_column_is_read(totesys):
    owner = totesys.connect()
    owner.run("REVOKE SELECT ON staff FROM reader")
    owner.run("GRANT SELECT (staff_id, first_name, last_name, department_id, created_at, "
              "last_updated) ON staff TO reader")  # fmt: skip
    text = make("staff", totesys.connect("reader"), {"email_address": "drop"})
    found = parse("staff.json", text)["email_address"]
    assert found == {"x-land": "drop", POSTGRESQL_TYPE: "text", "type": "string"}


def test_the_command_makes_a_contract_of_the_local_totesys(folder, capsys):
    assert main(["currency"]) == 0
    assert "currency.json. Read it" in capsys.readouterr().out
    assert list(contract_of("currency")) == [
        "currency_id", "currency_code", "created_at", "last_updated"
    ]  # fmt: skip
    with pytest.raises(SystemExit, match="There is no table 'nothing'"):
        main(["nothing"])


def test_a_stage_whose_secret_is_not_there(aws, folder):
    with pytest.raises(SystemExit, match=r"'nowhere/totesys' can't be read.*Create it"):
        main(["currency", "--stage", "nowhere"])


def test_a_table_without_contract_lands_with_one_warning(totesys, bucket, folder, log_lines):
    assert run(totesys, bucket, ["currency"])["rows"] == 3
    [line] = [line for line in log_lines() if line["level"] != "INFO"]
    assert (line["level"], line["table"]) == ("WARNING", "currency")
    assert "make contract TABLE=currency" in line["message"]


def test_what_was_claimed_by_a_run_that_died_is_held_against_its_contract(totesys, bucket):
    place = Place(totesys, bucket, ["sales_order"], {})
    place.run()
    place.execute(BAD_ORDER)
    place.die_after_claiming()
    summary = place.run()["tables"]["sales_order"]
    assert (summary["rows"], summary["contract_violations"]) == (2, 1)


def test_a_contract_that_can_not_be_used_fails_its_table_only(totesys, bucket, folder):
    for table in ("currency", "staff"):
        shutil.copy(ROOT / f"shared/contracts/{table}.json", folder)
    path = folder / "currency.json"
    path.write_text(path.read_text().replace('"pattern"', '"format"'))
    with pytest.raises(
        IngestionError, match=r"currency\.json.*'format' is not supported"
    ) as failed:
        run(totesys, bucket, ["staff", "currency"])
    assert isinstance(failed.value.failures["currency"], ConfigError)
    assert landed.ids(bucket, "currency") == []
    assert len(landed.ids(bucket, "staff")) == 20


# No table is called that, so the test goes on when a twelfth table, or a thirteenth, is there.
LATER = "added_later"
DDL = f"""
CREATE TYPE "LaterState" AS ENUM ('OPEN', 'it''s "SENT"');
CREATE TABLE {LATER} (
    {LATER}_id serial PRIMARY KEY, discount numeric(3,1), state "LaterState" NOT NULL,
    due text NOT NULL, at timestamp(3) NOT NULL, payment_id integer NOT NULL REFERENCES payment
)
"""
INSERT = f"""
INSERT INTO {LATER} (discount, state, due, at, payment_id)
SELECT 1.5, 'OPEN', due, '2024-03-01', 1 FROM unnest(CAST(:due AS text[])) AS due
"""
CALL = f"""
import json, sys
from types import SimpleNamespace
from benchmarks.cost import RESULTS, Stage, bill
from services.ingestion.handler import lambda_handler
context = SimpleNamespace(get_remaining_time_in_millis=lambda: 240_000)
lambda_handler({{"tables": ["{LATER}", "currency"]}}, context)
print(json.dumps({{"bill": bill(json.loads(RESULTS.read_text()), Stage(1769))}}))
"""
# Each named or counted the tables once, or knew their values, and failed for another one.
OF_ALL_TABLES = (
    "unit/test_handler.py::test_no_event_means_all_tables_of_ours",
    "unit/test_pages.py::test_the_bill_is_what_the_measured_times_cost",
    "unit/test_check.py::test_every_contract_is_of_a_table_of_ours",
    "unit/test_check.py::test_our_contracts_are_json_schemas_that_take_some_values_and_refuse_others"
    f"[{LATER}]",
    "integration/local/test_totesys.py::TestSchema",
    "integration/rows/test_run.py::test_every_row_of_every_table_lands_as_the_database_says",
    "integration/rows/test_run_order.py::test_every_table_stands_before_the_tables_it_refers_to",
    f"integration/contracts/test_check.py::test_our_contract_was_made_of_the_real_table[{LATER}]",
    "integration/pages/test_deploying.py"
    "::test_the_role_can_read_the_tables_that_are_ingested_and_do_nothing_else",
)


@pytest.fixture
def copied(totesys, bucket, aws, tmp_path):
    """A copy of the code to add a table to, and a command line in it."""
    ignored = shutil.ignore_patterns("__pycache__", "*.svg", "node_modules")
    for folder in (
        "services",
        "shared",
        "local",
        "tools",
        "tests",
        "benchmarks",
        "docs",
        "resources",
    ):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=ignored)
    for name in (*PAGES, "pyproject.toml", "serverless.yml"):
        shutil.copy(ROOT / name, tmp_path / name)
    secret = f"{bucket.name}/totesys"
    aws("secretsmanager").create_secret(Name=secret, SecretString=json.dumps(totesys.secret))
    environment = os.environ | {
        "BUCKET_NAME": bucket.name,
        "DB_SECRET_ID": secret,
        "DB_CA_FILE": "shared/rds-ca/eu-west-2.pem",
        "POWERTOOLS_SERVICE_NAME": "ingestion",
    }

    def python(*arguments):
        """Run; return what it wrote, parsed where it is JSON."""
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        lines = (done.stdout + done.stderr).splitlines()
        return [json.loads(line) for line in lines if line.startswith("{")]

    return tmp_path, python


@pytest.fixture
def added(copied, totesys, bucket):
    """A copy of the code with one table more: by one command and one line."""
    connection = totesys.connect()
    connection.run(DDL)
    connection.run(INSERT, due=["2024-02-28", "2024-02-29"])
    folder, python = copied
    tables = folder / "shared/tables.py"
    first = f'    "{TABLES[0]}",\n'
    tables.write_text(tables.read_text().replace(first, f'    "{LATER}",\n{first}'))
    python("-m", "tools.contract", LATER, "--stage", bucket.name)
    return python


@pytest.mark.long
def test_adding_a_table_is_that_command_and_a_line(added, totesys, bucket):
    connection, python = totesys.connect(), added
    said = python("-c", CALL)
    assert {line["level"] for line in said if "level" in line} == {"INFO"}
    assert [row["due"] for row in landed.rows(bucket, LATER)] == ["2024-02-28", "2024-02-29"]
    [bill] = [line["bill"] for line in said if "bill" in line]
    found = json.loads(cost.RESULTS.read_text())
    assert bill == cost.bill(found, cost.Stage(1769, len(TABLES) + 1))
    assert sum(bill.values()) > sum(cost.bill(found, cost.Stage(1769)).values())
    [of_table] = [line for line in said if line.get("table") == LATER]
    assert (of_table["message"], of_table["rows"]) == ("Table ingested", 2)

    connection.run(INSERT, due=["2023-02-29"])
    said = python("-c", CALL)
    [line] = [line for line in said if line.get("level", "INFO") != "INFO"]
    assert (line["level"], line["table"], line["column"]) == ("ERROR", LATER, "due")
    pattern = metric_filters()["ContractsBrokenFilter"]["FilterPattern"]
    assert matches(pattern, json.dumps(line))
    [of_table] = [each for each in said if each.get("message") == "Table ingested"
                  and each["table"] == LATER]  # fmt: skip
    assert of_table["contract_violations"] == 1
    assert len(landed.rows(bucket, LATER)) == 3


@pytest.mark.long
def test_the_tests_of_all_tables_hold_with_one_more(added):
    """The local Totesys has it, too, and with it what the demo and all other tests read."""
    tests = [f"tests/{each}" for each in OF_ALL_TABLES]
    added("-m", "pytest", "-q", "-p", "no:cacheprovider", *tests)
