"""What docs/consuming.md tells consumers to do, done to what has landed."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import duckdb
import pytest

from local import totesys as totesys_database
from services.ingestion import Range, get_table_data, replay
from shared.bucket import keys
from shared.jsonlines import to_json_lines
from shared.tables import Table
from tests.helpers.oracle.exactly_once import content
from tests.helpers.oracle.pages import blocks, page, section
from tests.helpers.runs.changing import update, write
from tests.helpers.runs.place import Place

GUIDE = page("docs/consuming.md")
WRITES = (
    "UPDATE payment SET paid = NOT paid",
    "UPDATE design SET file_location = '/new' WHERE design_id % 2 = 0",
    "UPDATE counterparty SET delivery_contact = NULL WHERE counterparty_id = 3",
)
SOME_TABLES = ("payment", "transaction", "design", "counterparty")


@pytest.fixture
def read_table():
    [lines] = blocks(GUIDE, "python")
    names: dict = {}
    exec(lines, names)
    return names["read_table"]


def in_totesys(totesys, table):
    """Return the table's rows as they would land now."""
    lines = to_json_lines(get_table_data(table, 0, totesys.connect())).splitlines()
    return [json.loads(line, parse_float=Decimal) for line in lines]


def test_the_code_in_the_guide_reads_the_table(totesys, bucket, read_table):
    place = Place(totesys, bucket, SOME_TABLES, {}, with_changes=True)
    for _ in range(3):
        place.run()
        totesys_database.add_events(totesys.connect(), 5)
        write(place, *WRITES)
    place.run()
    place.run()
    replay(Range("payment", 0, 200), bucket.client, totesys.connect(), bucket.name, 90, lambda: 1.0)
    write(place, *WRITES)
    place.run()
    for table in SOME_TABLES:
        rows = read_table(table, bucket.name).to_dict("records")
        assert rows == in_totesys(totesys, table), table
    assert len(place.now().before) > 3 * len(SOME_TABLES)


def test_a_table_of_which_nothing_has_landed_reads_as_empty(totesys, bucket, read_table):
    assert read_table("payment", bucket.name).empty
    totesys.connect().run("TRUNCATE payment")
    Place(totesys, bucket, SOME_TABLES, {}, with_changes=True).run()
    assert read_table("payment", bucket.name).empty
    assert not read_table("transaction", bucket.name).empty


def test_the_sql_in_the_guide_reads_the_table(totesys, bucket, read_table, tmp_path):
    """On a copy of the bucket, as DuckDB's S3 client is an extension of its own."""
    place = Place(totesys, bucket, ["payment"], {}, with_changes=True)
    for write_one in WRITES[:1] * 2:
        place.run()
        write(place, write_one)
    place.run()
    for key, (body, _) in content(bucket).items():
        path = tmp_path / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(body)
    [sql] = blocks(GUIDE, "sql")
    found = duckdb.sql(sql.replace("s3://prod-ingestion-bucket", str(tmp_path))).fetchall()
    expected = read_table("payment", bucket.name)[["payment_id", "payment_amount", "paid"]]
    assert found == [tuple(row) for row in expected.to_numpy()]
    assert len(list(bucket.keys("changes/payment/"))) > 2


def test_objects_have_the_metadata_that_the_guide_names(totesys, bucket):
    place = Place(totesys, bucket, ["payment"], {}, with_changes=True)
    place.run()
    write(place, *WRITES)
    place.run()
    replay(Range("payment", 0, 200), bucket.client, totesys.connect(), bucket.name, 90, lambda: 1.0)
    named = {
        cells[0].strip(" `").split("/")[0]: set(re.findall(r"`(\w+)`", cells[2]))
        for line in section(GUIDE, "What lands where").splitlines()
        if line.startswith("| `") and ".jsonl" in line
        for cells in [line.strip("|").split("|")]
    }
    assert set(named) == {"address", "changes", "replays"}
    seen = set()
    for folder in ("payment/", "changes/payment/", "replays/payment/"):
        for key in bucket.keys(folder):
            if key.endswith(".jsonl"):
                found = bucket.metadata(key)
                kind = folder.split("/")[0].replace("payment", "address")
                assert set(found) == named[kind], key
                assert int(found["rows"]) == len(bucket.get(key).body.splitlines())
                seen.add(kind)
    assert seen == set(named)


EXAMPLES = (
    ("3.10", "numeric"),
    ("0.1", "double precision"),
    ("2022-11-03T14:20:52.186", "timestamp"),
    ("2022-11-03T15:20:52.186+01", "timestamptz"),
    ("2022-11-07", "date"),
    (None, "text"),
    ("true", "boolean"),
    ("[1, 2]", "jsonb"),
    ("\\xdeadbeef", "bytea"),
    ("NaN", "numeric"),
    ("1 day", "interval"),
)


def test_values_land_as_the_guide_says(database, bucket):
    table = section(GUIDE, "Values")
    said = re.findall(r"\| `([^`]+)` \|$", table, re.MULTILINE)
    columns = [f"c{number} {name}" for number, (_, name) in enumerate(EXAMPLES)]
    connection = database.connect()
    connection.run(f"CREATE TABLE thing (thing_id serial, {', '.join(columns)})")
    values = {f"v{number}": value for number, (value, _) in enumerate(EXAMPLES)}
    names = ", ".join(f"c{number}" for number in range(len(EXAMPLES)))
    binds = ", ".join(f":{name}" for name in values)
    connection.run(f"INSERT INTO thing ({names}) VALUES ({binds})", **values)
    Place(database, bucket, ["thing"], {}).run()
    [key] = [key for key in bucket.keys("thing/") if key.endswith(".jsonl")]
    line = bucket.get(key).body.decode()
    landed = [f'"c{number}":{text}' for number, text in enumerate(said)]
    assert line == '{"thing_id":1,' + ",".join(landed) + "}\n"


def test_claims_lead_from_batch_to_batch(database, bucket):
    place = Place(database, bucket, ["thing"], {}, with_changes=True)
    insert = "INSERT INTO thing SELECT FROM generate_series(1, 9)"
    write(place, "CREATE TABLE thing (thing_id serial)", insert)
    for _ in range(3):
        place.run()
        write(place, insert)
    row_id, rows = 0, []
    while claim := bucket.get(keys.format_claim_key(Table("thing"), row_id)):
        key = json.loads(claim.body)["key"]
        rows += bucket.get(key).body.splitlines()
        row_id = keys.parse_data_key(key).row_id
    assert [json.loads(row)["thing_id"] for row in rows] == list(range(1, 28))


class Copy:
    """A consumer's copy of a table, kept as the guide says."""

    def __init__(self, place):
        self.place = place
        self.seen: set[str] = set()
        self.names: dict[int, str] = {}

    def apply(self, *streams):
        """Apply what was not seen yet."""
        for stream in streams:
            for key in self.place.bucket.keys(stream):
                if key.endswith(".jsonl") and key not in self.seen:
                    self._apply_object(key, overwrite=stream.startswith("changes/"))

    def _apply_object(self, key, *, overwrite):
        for row in map(json.loads, self.place.bucket.get(key).body.splitlines()):
            if overwrite or row["thing_id"] not in self.names:
                self.names[row["thing_id"]] = row["name"]
        self.seen.add(key)

    def crash(self):
        """Forget how far it was in the changes, but for the first."""
        self.seen -= set(
            self.place.bucket.keys(
                "changes/thing/", after=keys.format_change_key(Table("thing"), 1)
            )
        )


@pytest.mark.parametrize("first", ["thing/", "changes/thing/"])
def test_a_copy_may_be_anywhere_in_either_stream(database, bucket, first):
    """It reads one of them for long, and then the other."""
    place = Place(database, bucket, ["thing"], {}, with_changes=True)
    insert = "INSERT INTO thing (name) VALUES ('a'), ('b')"
    write(place, "CREATE TABLE thing (thing_id serial, name text)", insert)
    copy = Copy(place)
    for row_id in range(1, 4):
        place.run()
        copy.apply(first)
        write(place, insert, update(row_id), update(2))
    for _ in range(2):
        place.run()
    copy.apply("thing/", "changes/thing/")
    copy.crash()
    copy.apply("thing/", "changes/thing/")
    stored = place.database.connect().run("SELECT thing_id, name FROM thing ORDER BY 1")
    assert sorted(copy.names.items()) == [tuple(row) for row in stored]
