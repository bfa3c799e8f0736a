"""What docs/consuming.md tells consumers to do, done to what has landed."""

from __future__ import annotations

import json
import re

import boto3
import pandas as pd
import pytest

from local import totesys as totesys_database
from services.ingestion import Range, get_table_data, replay
from shared.bucket import keys, read_new
from shared.jsonlines import to_json_lines
from shared.tables import Table
from tests.helpers.cases import as_long
from tests.helpers.oracle.frames import assert_same
from tests.helpers.oracle.pages import blocks, page, section
from tests.helpers.runs.changing import bury, update, write
from tests.helpers.runs.place import Place

THING = Table("thing")
GUIDE = page("docs/consuming.md")
WRITES = (
    "UPDATE payment SET paid = NOT paid",
    "UPDATE design SET file_location = '/new' WHERE design_id % 2 = 0",
    "UPDATE counterparty SET delivery_contact = NULL WHERE counterparty_id = 3",
)
SOME_TABLES = ("payment", "transaction", "design", "counterparty")


def run_guide(number, table, bucket, **names):
    """Run one of the guide's blocks of Python for another table and bucket; return its names."""
    code = blocks(GUIDE, "python")[number]
    code = code.replace("payment", table).replace("prod-ingestion-bucket", bucket.name)
    exec(code, names)
    return names


def read_table(table, bucket):
    return run_guide(0, table, bucket)[f"{table}s"]


def in_totesys(totesys, table):
    return get_table_data(table, 0, totesys.connect())


def test_the_code_in_the_guide_reads_the_table(totesys, bucket):
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
        assert_same(read_table(table, bucket), in_totesys(totesys, table))
    assert len(place.now().before) > 3 * len(SOME_TABLES)


def test_a_table_of_which_nothing_has_landed_reads_as_empty(totesys, bucket):
    assert read_table("payment", bucket).empty
    totesys.connect().run("TRUNCATE payment")
    Place(totesys, bucket, SOME_TABLES, {}, with_changes=True).run()
    assert_same(read_table("payment", bucket), in_totesys(totesys, "payment"))
    assert not read_table("transaction", bucket).empty


def keep_up_to_date(table, bucket, copy, checkpoint):
    """Do what the guide says until the checkpoint stays the same."""
    names = {"pd": pd, "boto3": boto3, "read_new": read_new, "copy": copy, "checkpoint": checkpoint}
    while True:
        before = names["checkpoint"]
        names = run_guide(1, table, bucket, **names)
        if names["checkpoint"] == before:
            return names["copy"], before


def test_the_code_in_the_guide_keeps_a_copy_up_to_date(totesys, bucket):
    place = Place(totesys, bucket, SOME_TABLES, {}, with_changes=True)
    copies = {table: (None, None) for table in SOME_TABLES}
    writes = [*WRITES, "DELETE FROM payment WHERE payment_id % 7 = 0"]
    buried = 0
    for _ in range(3):
        place.run()
        buried += bury(place, "payment")
        for table, (copy, checkpoint) in copies.items():
            copies[table] = keep_up_to_date(table, bucket, copy, checkpoint)
        totesys_database.add_events(totesys.connect(), 5)
        write(place, *writes)
    place.run()
    buried += bury(place, "payment")
    assert buried > 40
    for table, (copy, checkpoint) in copies.items():
        copy, _ = keep_up_to_date(table, bucket, copy, checkpoint)
        rows = copy.sort_values(f"{table}_id", ignore_index=True)
        assert to_json_lines(rows) == to_json_lines(in_totesys(totesys, table))


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
    assert set(named) == {"address", "changes"}
    seen = set()
    for folder in ("payment/", "changes/payment/"):
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


class Copy:
    """A consumer's copy of a table, kept step by step as the guide says, without `read_new`."""

    def __init__(self, bucket):
        self.bucket = bucket
        self.names: dict[int, str] = {}
        self.p = self.n = 0

    def follow(self):
        """Apply what is new, each line at once; remember how far that goes at the end."""
        p, n = self.p, self.n
        behind = keys.format_change_key(THING, n)
        listed = [key for key in self.bucket.keys("changes/thing/", behind) if "latest" not in key]
        while claim := self.bucket.get(f"claims/thing/{p}.json"):
            key = json.loads(claim.body)["key"]
            if not self._apply(key):
                break
            p = int(key.partition("/")[2].partition("-")[0])
        for key in listed:
            assert self._apply(key)
            n = int(key.rpartition("/")[2].partition(".")[0])
        self.p, self.n = p, n

    def _apply(self, key):
        found = self.bucket.get(key)
        for row in map(json.loads, found.body.splitlines() if found else ()):
            if row.get("_deleted"):
                self.names.pop(row["thing_id"], None)
            else:
                self.names[row["thing_id"]] = row["name"]
        return found


@pytest.mark.parametrize("crashes", [as_long(False), True])
def test_whoever_follows_both_streams_as_the_guide_says_has_the_table(database, bucket, crashes):
    place = Place(database, bucket, ["thing"], {}, with_changes=True)
    insert = "INSERT INTO thing (name) VALUES ('a'), ('b')"
    write(place, "CREATE TABLE thing (thing_id serial, name text)", insert)
    copy = Copy(bucket)
    for row_id in range(1, 5):
        place.run()
        reached = copy.p, copy.n
        copy.follow()
        if crashes:
            copy.p, copy.n = reached  # it crashed before it stored them
        write(place, insert, update(row_id), update(2), "DELETE FROM thing WHERE name LIKE 'b!%'")
        bury(place, "thing")
    place.run()
    write(place, "INSERT INTO thing (thing_id, name) VALUES (2, 'again')")
    place.run()
    copy.follow()
    stored = place.database.connect().run("SELECT thing_id, name FROM thing ORDER BY 1")
    assert sorted(copy.names.items()) == [tuple(row) for row in stored]
    assert copy.names[2] == "again"
    new = read_new("thing", None, bucket.client, bucket.name)
    rows = new.upserts[["thing_id", "name"]].itertuples(index=False, name=None)
    assert dict(rows) == copy.names
