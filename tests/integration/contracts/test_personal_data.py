"""Columns that are dropped or hashed: no value of theirs reaches the bucket, or a log."""

from __future__ import annotations

import hmac
import json
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from local.totesys.database import HASH_KEY
from services.ingestion import Range, get_table_data, replay
from services.ingestion.handler import lambda_handler
from shared.bucket import read_new
from shared.errors import ConfigError, IngestionError, SourceError
from shared.postgres import statement
from shared.tables import TABLES, Table
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content
from tests.helpers.oracle.frames import assert_same
from tests.helpers.oracle.pages import blocks, page
from tests.helpers.runs.changing import compare, write
from tests.helpers.runs.lambda_context import CONTEXT
from tests.helpers.runs.place import Place
from tools.answers import LandedTables

GUIDE = page("docs/personal-data.md")
SCHEMA = """
CREATE TABLE thing (
    thing_id serial PRIMARY KEY, phone text, name text, born date NOT NULL, city text,
    number numeric(12,2)
)"""
# The server itself says whether what is dropped is read: the role has no right to.
ONLY_THESE = (
    "REVOKE SELECT ON thing FROM reader",
    "GRANT SELECT (thing_id, name, born, city, number, xmin) ON thing TO reader",
)
INSERT = (
    "INSERT INTO thing (phone, name, born, city, number) "
    "SELECT '0180-' || n, 'Ada Nr. ' || n, date '1901-01-01' + n, 'Leeds', 70000000 + n "
    "FROM generate_series({}, {}) AS n"
)
OTHERS = "INSERT INTO thing (born) VALUES ('1900-01-01')"


def hash_of(text):
    return hmac.new(HASH_KEY.encode(), text.encode(), "sha256").hexdigest()


def as_it_lands(row_id, n):
    return {
        "thing_id": row_id,
        "name": hash_of(f"Ada Nr. {n}"),
        "born": hash_of(f"1901-01-{n + 1:02}"),
        "city": "Leeds",
        "number": hash_of(f"700000{n:02}.00"),
    }


@pytest.fixture
def place(database, bucket, x_land):
    """A table of which phones are dropped, and names, dates and numbers are hashed."""
    place = Place(database, bucket, ["thing"], {}, with_changes=True)
    place.execute(SCHEMA, *ONLY_THESE)
    with closing(database.connect()) as connection:
        x_land("thing", connection, phone="drop", name="hash", born="hash", number="hash")
    return place


def ask_all(sql, bucket, folder):
    """Return the columns and the rows that `make query` shows."""
    with (
        TemporaryDirectory(dir=folder) as copies,
        closing(LandedTables([Table("thing")], bucket, Path(copies))) as landed_tables,
    ):
        [answer] = landed_tables.ask(sql)
        return list(answer.headings), list(answer.rows)


@pytest.fixture
def lines(place, log_lines):
    """Return the lines of each kind of object, after no other text tells a personal value."""

    def collect():
        found: dict[str, list[dict]] = {"thing": [], "changes": []}
        for key, (body, _) in content(place.bucket).items():
            told = body.decode(errors="replace")  # the inventory is packed
            if key.endswith(".jsonl"):
                found[key.split("/")[0]] += map(json.loads, told.splitlines())
            assert not any(word in told for word in ("0180", "Ada", "1901"))
            # How the table is declared is told to the service, but no value of a column.
            assert "phone" not in told or key == "changes/thing/latest.json"
        logged = json.dumps(log_lines())
        assert not any(word in logged for word in ("0180", "Ada", "1901-", HASH_KEY))
        return found

    return collect


def test_new_rows(place, lines):
    place.execute(INSERT.format(1, 3))
    assert place.run()["rows"] == 3
    assert lines()["thing"] == [as_it_lands(n, n) for n in (1, 2, 3)]


def test_batches_that_are_read_ahead(place, lines):
    place.execute(INSERT.format(1, 7))
    Place(place.database, place.bucket, ["thing"], {}, batch_rows=2).run()
    assert lines()["thing"] == [as_it_lands(n, n) for n in range(1, 8)]


def test_rows_that_commit_late(place, lines, monkeypatch):
    writer = place.database.connect()
    writer.run("BEGIN")
    writer.run(INSERT.format(1, 2))
    place.execute(INSERT.format(3, 4))
    monkeypatch.setattr("services.ingestion.writers.time.sleep", lambda _: writer.run("COMMIT"))
    place.run()
    assert lines()["thing"] == [as_it_lands(n, n) for n in (1, 2, 3, 4)]


def test_rows_so_long_that_they_are_measured(place, lines, monkeypatch):
    monkeypatch.setattr(statement, "STATEMENT_BYTES", 100)
    place.execute(INSERT.format(1, 9))
    place.run()
    assert lines()["thing"] == [as_it_lands(n, n) for n in range(1, 10)]


def test_a_batch_that_a_run_claimed_before_it_died(place, lines):
    place.execute(INSERT.format(1, 3))
    place.die_after_claiming()
    place.run()
    assert lines()["thing"] == [as_it_lands(n, n) for n in (1, 2, 3)]


def test_changes(place, lines):
    write(place, INSERT.format(1, 3))
    place.run()
    write(place, "UPDATE thing SET name = 'Ada Nr. 9', phone = '0180-9' WHERE thing_id = 2")
    assert place.run()["tables"]["thing"]["changes"] == 1
    assert lines()["changes"] == [as_it_lands(2, 2) | {"name": hash_of("Ada Nr. 9")}]


def test_a_replay(place, lines):
    place.execute(INSERT.format(1, 3))
    place.run()
    with closing(place.session()) as connection:
        replay(
            Range("thing", 1, 3), place.bucket.client, connection, place.bucket.name, 9,
            lambda: 1.0, hash_key=HASH_KEY,
        )  # fmt: skip
    assert lines()["changes"] == [as_it_lands(n, n) for n in (2, 3)]


def test_a_null_stays_null_and_only_values_that_are_there_are_hashed(place, lines):
    place.execute(OTHERS)
    place.run()
    empty = dict.fromkeys(("name", "city", "number"))
    assert lines()["thing"] == [{"thing_id": 1, "born": hash_of("1900-01-01"), **empty}]


def test_the_frame_is_what_lands(place):
    place.execute(INSERT.format(1, 2))
    with closing(place.session()) as connection:
        frame = get_table_data("thing", 0, connection, hash_key=HASH_KEY)
        assert frame.to_dict("records") == [as_it_lands(n, n) for n in (1, 2)]
        assert list(frame) == ["thing_id", "name", "born", "city", "number"]
        empty = get_table_data("thing", 2, connection, hash_key=HASH_KEY)
        assert list(empty) == list(frame)
        with pytest.raises(ConfigError, match="no `hash_key`"):
            get_table_data("thing", 0, connection)


def test_rows_that_had_landed_before_land_once_more_as_the_guide_says(place, lines, x_land):
    write(place, INSERT.format(1, 3))
    x_land("thing", city="drop")
    place.run()
    assert place.run()["tables"]["thing"]["changes"] == 0
    x_land("thing", city="hash")
    findings = compare(
        place, hash_key=HASH_KEY
    )  # says nothing before the next run has compared them
    assert (len(findings.differing), findings.proved) == (0, 0)
    assert place.run()["tables"]["thing"]["changes"] == 3
    assert place.run()["tables"]["thing"]["changes"] == 0
    findings = compare(place, hash_key=HASH_KEY)
    assert (len(findings.differing), findings.proved) == (0, 3)
    found = lines()
    assert [set(line) for line in found["thing"]] == [{"thing_id", "name", "born", "number"}] * 3
    assert [line["city"] for line in found["changes"]] == [hash_of("Leeds")] * 3


def test_consumers_get_hashes_as_text_and_nothing_of_what_is_dropped(
    place, lines, x_land, tmp_path
):
    write(place, INSERT.format(1, 3))
    place.run()
    write(place, "UPDATE thing SET number = 1, born = '1900-01-01' WHERE thing_id = 2")
    assert place.run()["tables"]["thing"]["changes"] == 1
    lines()
    with closing(place.session()) as connection:
        expected = get_table_data("thing", 0, connection, hash_key=HASH_KEY)
    assert expected["number"][1] == hash_of("1.00")
    upserts = read_new("thing", None, place.bucket.client, place.bucket.name).upserts
    assert_same(upserts, expected)
    assert ask_all("SELECT * FROM thing ORDER BY 1", place.bucket, tmp_path) == (
        list(expected),
        [(str(row[0]), *row[1:]) for row in expected.itertuples(index=False, name=None)],
    )
    x_land("thing", city="drop")  # it has landed, and is handed out no more
    upserts = read_new("thing", None, place.bucket.client, place.bucket.name).upserts
    assert_same(upserts, expected.drop(columns="city"))
    names, rows = ask_all("SELECT * FROM thing_history", place.bucket, tmp_path)
    assert "city" not in names
    assert "Leeds" not in str(rows)


def test_the_role_needs_no_more_than_the_guide_grants(totesys, bucket, x_land):
    [contract] = blocks(GUIDE, "json")
    [sql] = blocks(GUIDE, "sql")
    x_land("staff", **{name: each["x-land"] for name, each in json.loads(contract).items()})
    place = Place(totesys, bucket, ["staff"], {}, with_changes=True)
    place.execute(sql.replace("totesys_ingestion", "reader"))
    place.run()
    write(place, "UPDATE staff SET last_name = 'Abbott' WHERE staff_id = 1")
    assert place.run()["tables"]["staff"]["changes"] == 1
    [row] = [row for row in landed.rows(bucket, "staff") if row["staff_id"] == 1]
    [[email]] = totesys.connect().run("SELECT email_address FROM staff WHERE staff_id = 1")
    assert row["email_address"] == hash_of(email)
    assert "first_name" not in row


def test_the_code_in_the_guide_hashes_as_the_service_does(place, lines):
    [code] = blocks(GUIDE, "python")
    names: dict = {"hash_key": HASH_KEY}
    exec(code, names)
    place.execute(INSERT.format(1, 1))
    place.run()
    [row] = lines()["thing"]
    for column, text in (("name", "Ada Nr. 1"), ("born", "1901-01-02"), ("number", "70000001.00")):
        assert row[column] == names["hash_of"](text, HASH_KEY)


def test_equal_values_of_two_tables_have_equal_hashes(deployed, bucket, x_land):
    x_land("payment", counterparty_id="hash")
    x_land("sales_order", counterparty_id="hash")
    lambda_handler({"tables": ["payment", "sales_order"]}, CONTEXT)
    of_payments = {row["counterparty_id"] for row in landed.rows(bucket, "payment")}
    of_orders = {row["counterparty_id"] for row in landed.rows(bucket, "sales_order")}
    assert of_orders & of_payments
    assert of_orders | of_payments <= {hash_of(str(number)) for number in range(1, 21)}
    replayed = {"table": "payment", "from_row_id": 0, "to_row_id": 1000}
    [key] = lambda_handler({"replay": replayed}, CONTEXT)["replay"]["keys"]
    lines = map(json.loads, landed.body(bucket, key).splitlines())
    assert {row["counterparty_id"] for row in lines} == of_payments


@pytest.mark.parametrize(
    "event", [{}, {"replay": {"table": "staff", "from_row_id": 0, "to_row_id": 9}}]
)
def test_without_a_key_nothing_of_that_table_is_read_and_all_others_land(
    deployed, bucket, x_land, totesys, event
):
    x_land("staff", email_address="hash")
    deployed(hash_key=None)
    totesys.connect().run("REVOKE SELECT ON staff FROM reader")  # if it were read, that would fail
    with pytest.raises(
        (IngestionError, ConfigError), match=r"staff\.json lets email_address .*no `hash_key`"
    ):
        lambda_handler(event, CONTEXT)
    assert landed.ids(bucket, "staff") == []
    if not event:
        assert all(landed.ids(bucket, table) for table in TABLES if table != "staff")


@pytest.mark.parametrize("column", ["phone", "name"])
def test_a_column_that_was_renamed_does_not_land_under_its_new_name(place, column):
    place.execute(INSERT.format(1, 3), f"ALTER TABLE thing RENAME {column} TO other")
    with pytest.raises(IngestionError, match=rf"no column '{column}'.*thing\.json") as failed:
        place.run()
    assert isinstance(failed.value.failures.popitem()[1], SourceError)
    assert landed.ids(place.bucket, "thing") == []
