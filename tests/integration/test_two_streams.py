"""README's lines that put the two streams together, run on what has landed."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from local import totesys as totesys_database
from services.ingestion import Range, get_table_data, replay
from shared.bucket import keys
from shared.jsonlines import to_json_lines
from shared.tables import TABLES, Table
from tests.helpers.changing import update, write
from tests.helpers.runs import Place

README = Path(__file__).resolve().parents[2] / "README.md"
WRITES = (
    "UPDATE payment SET paid = NOT paid",
    "UPDATE design SET file_location = '/new' WHERE design_id % 2 = 0",
    "UPDATE counterparty SET delivery_contact = NULL WHERE counterparty_id = 3",
)


@pytest.fixture
def read_table():
    [lines] = re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL)
    names: dict = {}
    exec(lines, names)
    return names["read_table"]


def in_totesys(totesys, table):
    """Return the table's rows as they would land now."""
    lines = to_json_lines(get_table_data(table, 0, totesys.connect())).splitlines()
    return [json.loads(line, parse_float=Decimal) for line in lines]


def test_the_lines_in_readme_make_the_table(totesys, bucket, read_table):
    place = Place(totesys, bucket, TABLES, {}, with_changes=True)
    for _ in range(3):
        place.run()
        totesys_database.add_events(totesys.connect(), 5)
        write(place, *WRITES)
    place.run()
    place.run()
    replay(Range("payment", 0, 200), bucket.client, totesys.connect(), bucket.name, 90, lambda: 1.0)
    write(place, *WRITES)
    place.run()
    for table in TABLES:
        rows = read_table(table, bucket.name).to_dict("records")
        assert rows == in_totesys(totesys, table), table
    assert len(place.now().before) > 3 * len(TABLES)


class Copy:
    """A consumer's copy of a table, kept as README says."""

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
