"""A table that is declared anew: what that changes arrives, and nothing else is sent."""

from __future__ import annotations

import json
from contextlib import closing, suppress

import pytest

from shared.bucket import keys, read_new
from shared.declaration import UNKNOWN, difference, digest, lines_depend_on
from shared.postgres.survey import read_survey
from shared.tables import Table
from tests.helpers.cases import one_in
from tests.helpers.faults.steps import PausedRun
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content
from tests.helpers.runs.changing import (
    TABLE,
    changed,
    changing,
    check_both,
    in_batches_of,
    run_for,
    run_with,
    state,
    update,
    write,
)
from tests.helpers.runs.place import Died

pytestmark = pytest.mark.thorough

SCHEMA = (
    "CREATE TYPE mood AS ENUM ('happy', 'sad')",
    "CREATE TYPE size AS (width int)",
    "CREATE TABLE thing (thing_id serial PRIMARY KEY, name varchar(10), mood mood DEFAULT 'happy',"
    " moods mood[] DEFAULT '{sad}', at timestamp DEFAULT '2024-11-11', number int, size size)",
)


@pytest.fixture
def place(database, bucket):
    """Things 1 to 6 have landed in two objects, and 2 has changed since."""
    place = changing(database, bucket, *SCHEMA)
    write(place, "INSERT INTO thing (name) SELECT 'new' FROM generate_series(1, 3)")
    place.run()
    write(place, update(2), "UPDATE thing SET mood = 'sad' WHERE thing_id = 5")
    place.run()
    assert changed(place) == [[2, 5]]
    return place.now()


ALL = [1, 2, 3, 4, 5, 6]
# Each with the things whose lines it changes. Those that rewrite the table make new versions, too;
# none of the others does.
DECLARATIONS = {
    "a column": ("ALTER TABLE thing ADD note text", ALL),
    "a column with a default": ("ALTER TABLE thing ADD note text DEFAULT 'none'", ALL),
    "a column with a volatile default": ("ALTER TABLE thing ADD x float DEFAULT random()", ALL),
    "a column dropped": ("ALTER TABLE thing DROP number", ALL),
    "a column renamed": ("ALTER TABLE thing RENAME number TO quantity", ALL),
    "another type, the lines as before": ("ALTER TABLE thing ALTER name TYPE text", []),
    "another type, other lines": ("ALTER TABLE thing ALTER at TYPE timestamptz", ALL),
    "another type, rewritten": ("ALTER TABLE thing ALTER number TYPE text", []),  # all are null
    "another type, rewritten, other lines": (
        "ALTER TABLE thing ALTER at TYPE text USING 'on ' || at", ALL,
    ),
    "nullability": ("ALTER TABLE thing ALTER name SET NOT NULL", []),
    "a label added": ("ALTER TYPE mood ADD VALUE 'angry'", []),
    "a label renamed": ("ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", ALL),
    "an unused label renamed": (
        "ALTER TYPE mood ADD VALUE 'x'; ALTER TYPE mood RENAME VALUE 'x' TO 'y'", [],
    ),
    "a label renamed that few have": (
        "UPDATE thing SET moods = NULL; ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'", ALL,
    ),
    "a composite type": ("ALTER TYPE size ADD ATTRIBUTE height int", []),
}  # fmt: skip


def read_all(place):
    return read_new(TABLE, None, place.bucket.client, place.bucket.name)


def sent(place):
    """Return the ids in the objects that the stream has got since."""
    stream = [key for key in content(place.bucket) if keys.is_change_key(key)]
    new = sorted(key for key in stream if keys.parse_change_key(key).number > 1)
    lines = [line for key in new for line in landed.body(place.bucket, key).splitlines()]
    return [json.loads(line)["thing_id"] for line in lines]


@pytest.mark.parametrize("what", one_in(4, DECLARATIONS))
def test_both_streams_are_the_table_and_only_changed_lines_are_sent(place, what):
    statements, ids = DECLARATIONS[what]
    write(place, *statements.split(";"))
    place.run()
    check_both(place)
    assert sent(place) == ids
    before = content(place.bucket)
    place.run()
    assert content(place.bucket) == before or state(place)["sequence"] == len(changed(place))
    assert sent(place) == ids
    assert len(read_all(place).upserts) == 6


def test_only_rows_with_the_label_are_sent(place):
    write(place, "UPDATE thing SET moods = NULL")
    place.run()
    write(place, "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'")
    place.run()
    assert changed(place)[2:] == [[5]]
    check_both(place)


@pytest.mark.parametrize("table", ["plain", "session_replication_role"])
def test_a_backfilled_column_arrives(place, table):
    write(place, "ALTER TABLE thing ADD note text")
    place.run()
    with closing(place.database.connect()) as connection:
        if table == "session_replication_role":
            connection.run("SET session_replication_role = replica")
        connection.run("UPDATE thing SET note = 'filled' WHERE thing_id <= 3")
        connection.run("SELECT pg_stat_force_next_flush()")
    place.run()
    check_both(place)
    assert changed(place)[-1] == [1, 2, 3]


def test_nothing_is_read_where_no_line_can_change(place, log_lines):
    """Nullability and new labels."""
    write(place, "ALTER TABLE thing ALTER name SET NOT NULL", "ALTER TYPE mood ADD VALUE 'angry'")
    place.run()
    assert not [line for line in log_lines() if "compared" in line["message"]]
    write(place, update(3))
    place.run()
    assert '"angry"' in state(place)["done"]["declared"]
    assert sent(place) == [3]


def test_it_says_what_it_costs(place, log_lines):
    write(place, "ALTER TABLE thing ADD note text")
    place.run()
    [said] = [line for line in log_lines() if line["message"].startswith("The rows that have")]
    assert said["because"] == "it was declared anew: columns: note"
    assert (said["ids_to_compare"], said["objects_to_read"]) == (6, 3)


def test_an_upgrade_sends_nothing(place):
    """What earlier releases wrote says nothing of the declaration."""
    key = keys.format_change_latest_key(Table(TABLE))
    said = state(place)
    del said["done"]["declared"]
    put(place, key, said)
    write(place, update(3))
    place.run()
    assert sent(place) == [3]
    assert state(place)["done"]["declared"].startswith("{")
    # The same, by the metadata of an object.
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    last = keys.format_change_key(Table(TABLE), 2)
    metadata = dict(place.bucket.metadata(last))
    del metadata["declared"]
    body = place.bucket.get(last).body
    place.bucket.client.put_object(Bucket=place.bucket.name, Key=last, Body=body, Metadata=metadata)
    place.run()
    assert sent(place) == [3, 3]


def put(place, key, said):
    place.bucket.client.put_object(
        Bucket=place.bucket.name, Key=key, Body=json.dumps(said).encode()
    )


def test_without_latest_json_the_metadata_of_the_last_object_says_it(place):
    key = keys.format_change_latest_key(Table(TABLE))
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    write(place, "ALTER TABLE thing ADD note text")
    place.run()
    check_both(place)


def test_a_row_that_shares_its_id_is_sent_all_the_same(database, bucket):
    place = changing(database, bucket, "CREATE TABLE thing (thing_id serial, name text)")
    write(place, "INSERT INTO thing VALUES (4, 'one'), (4, 'two')")
    place.run()
    write(place, "ALTER TABLE thing ALTER name TYPE varchar")
    place.run()
    assert changed(place) == [[4, 4]]


def test_where_there_are_too_many_objects_every_line_is_sent(place, monkeypatch, log_lines):
    monkeypatch.setattr("services.ingestion.comparing._MOST_OBJECTS", 2)
    write(place, "ALTER TABLE thing ALTER name TYPE text")
    place.run()
    assert sent(place) == ALL
    assert [line for line in log_lines() if "too many requests" in line["message"]]


@pytest.mark.parametrize("how", one_in(2, ["missing", "truncated", "no row"]))
@pytest.mark.parametrize("stream", ["rows", "changes"])
def test_where_an_object_can_not_be_read_every_line_is_sent(place, how, stream):
    key = keys.format_change_key(Table(TABLE), 1)
    if stream == "rows":
        key = landed.data_keys(place.bucket, TABLE)[0]
    body, metadata = content(place.bucket)[key]
    client, name = place.bucket.client, place.bucket.name
    client.delete_object(Bucket=name, Key=key)
    if how != "missing":
        altered = body[: body.index(b"\n") + 1] if how == "truncated" else body + b"{}\n"
        client.put_object(Bucket=name, Key=key, Body=altered, Metadata=metadata)
    write(place, "ALTER TABLE thing ALTER name TYPE text")
    place.run()
    assert sent(place) == ALL


def stretch_by_stretch(place):
    """Run until nothing is left, a stretch of two rows each time."""
    for _ in range(20):
        if not run_for(in_batches_of(place, 2), 3)["more"]:
            return
    raise AssertionError("It never ends.")


@pytest.mark.parametrize("what", one_in(6, DECLARATIONS))
def test_it_goes_on_in_the_next_call(place, what):
    write(place, *DECLARATIONS[what][0].split(";"))
    stretch_by_stretch(place)
    check_both(place)
    assert sorted(sent(place)) == DECLARATIONS[what][1]


def die():
    raise Died


ADD, DROP = "ALTER TABLE thing ADD note text DEFAULT 'none'", "ALTER TABLE thing DROP note"


@pytest.mark.parametrize("number", one_in(18, range(10, 46)))
def test_wherever_it_dies_and_whatever_is_declared_then(place, number):
    """Also as before: the lines that have landed meanwhile are no longer those of the table."""
    write(place, ADD)
    with suppress(Died):
        run_with(place, number, die)
    write(place, DROP)
    place.run()
    check_both(place)


@pytest.mark.parametrize("number", one_in(18, range(10, 46)))
def test_whatever_is_declared_while_it_compares(place, number):
    write(place, ADD)
    with suppress(Exception):  # it was declared anew while it was read
        run_with(place, number, lambda: write(place, "ALTER TYPE mood RENAME VALUE 'sad' TO 'so'"))
    place.run()
    check_both(place)


@pytest.mark.parametrize("objects", one_in(2, range(3)))
def test_lines_that_were_read_before_are_refused(place, objects):
    """A slow run has read lines; meanwhile the table is declared as it was, and compared."""
    write(place, ADD)
    slow = PausedRun(place.run)
    slow.advance(lambda step: step.startswith("before PutObject") and "changes/thing/0" in step)
    write(place, DROP, *[update(3)] * bool(objects))
    for _ in range(objects + 1):
        place.run()
    slow.finish()
    place.run()
    check_both(place)


def test_the_declaration_is_forgotten_before_anything_lands(place):
    write(place, ADD)
    seen = []

    def look(step):
        if step.startswith("before PutObject") and "changes/thing/0" in step:
            seen.append(state(place)["done"]["declared"])

    place.run(look)
    assert seen == [UNKNOWN]
    metadata = place.bucket.metadata(keys.format_change_key(Table(TABLE), 2))
    assert metadata["declared"] == UNKNOWN


def test_a_declaration_says_what_lines_depend_on(place):
    """Of each kind of type that values consist of."""
    write(
        place,
        "CREATE DOMAIN feeling AS mood",
        "CREATE TYPE span AS RANGE (subtype = mood)",
        "CREATE TYPE deep AS (inner_size size, feelings feeling[])",
        "CREATE TABLE other (other_id serial PRIMARY KEY, a feeling, b span, c deep, d int)",
    )
    with closing(place.session()) as session:

        def look():
            return read_survey([Table("other")], session).marks["other"].declared

        before = look()
        for anew, what in {
            "ALTER TYPE mood RENAME VALUE 'sad' TO 'blue'": "labels of an enum",
            "ALTER TYPE size ADD ATTRIBUTE height int": "a composite type",
            "ALTER TABLE other RENAME d TO e": "columns: e, d",
            "ALTER TABLE other ALTER e TYPE bigint": "columns: e",
            "ALTER TYPE mood ADD VALUE 'angry'": None,
            "ALTER TABLE other ALTER e SET NOT NULL": None,
        }.items():
            write(place, anew)
            now = look()
            assert difference(before, now) == what, anew
            assert difference(digest(before), now) == (
                None if before == now else "columns, types or labels"
            )
            before = now


def test_what_says_nothing_is_the_same():
    declared = lines_depend_on([["thing_id", "integer", None]])
    assert difference("", declared) is None
    assert difference(declared, "") is None
    assert difference(UNKNOWN, declared) == "a comparison of its lines has not ended"
