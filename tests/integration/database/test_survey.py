"""How tables stand, asked at once: exact, whatever they are called, and as fast as indexes are."""

from __future__ import annotations

import pytest
from pg8000.native import identifier

from shared.errors import SourceError
from shared.postgres.survey import read_highest_ids, read_survey
from shared.tables import TABLES, Table
from tests.helpers.servers import since


@pytest.mark.parametrize("name", ["asked", "family", "seen", "here", "t", "number", 'or"der', "é"])
def test_no_name_of_a_table_is_one_of_the_statement(database, name):
    writer, id_column = database.connect(), identifier(f"{name}_id")
    table = identifier(name)
    writer.run(f"CREATE TABLE {table} ({id_column} int PRIMARY KEY, note text)")
    assert read_survey([Table(name)], database.connect("reader")).highest_ids == {name: 0}
    writer.run(f"INSERT INTO {table} VALUES (7), (9)")
    seen = read_survey([Table(name)], database.connect("reader"))
    assert (
        seen.highest_ids == {name: 9} == read_highest_ids([Table(name)], database.connect("reader"))
    )
    assert seen.declared == {name: ((f"{name}_id", "integer", False), ("note", "text", True))}


PARTITIONED = """
CREATE TABLE part (part_id int PRIMARY KEY, name text) PARTITION BY RANGE (part_id);
CREATE TABLE middle PARTITION OF part DEFAULT PARTITION BY RANGE (part_id);
CREATE TABLE leaf PARTITION OF middle DEFAULT;
"""
WRITES = [
    "INSERT INTO {table} VALUES (8, 'a'), (9, 'b')",
    "UPDATE {table} SET name = 'c'",
    "DELETE FROM {table} WHERE {table}_id = 8",
    "ALTER TABLE {table} ALTER name TYPE varchar USING upper(name)",
    "ALTER TABLE {table} ADD at timestamptz DEFAULT clock_timestamp()",
    "TRUNCATE {table}",
]


@pytest.mark.parametrize("table", ["thing", "part"])
def test_no_write_goes_unnoticed(database, table):
    """A table is not looked at for changes as long as its counters are the same."""
    writer, reader = database.connect(), database.connect("reader")
    writer.run("CREATE TABLE thing (thing_id int PRIMARY KEY, name text)")
    writer.run(PARTITIONED)
    seen = [read_survey([Table(table)], reader).marks[table]]
    for write in WRITES:
        writer.run(write.format(table=table))
        writer.run("SELECT pg_stat_force_next_flush()")
        seen.append(read_survey([Table(table)], reader).marks[table])
        assert seen[-1].writes != seen[-2].writes, write
        assert read_survey([Table(table)], reader).marks[table].writes == seen[-1].writes
    assert len({mark.history for mark in seen}) == 1
    assert len({mark.writes for mark in seen}) == len(seen)


@since(15)  # before, the counters are reset some time later
def test_counters_that_begin_again_are_others(database):
    """They may come to stand where they stood."""
    writer, reader = database.connect(), database.connect("reader")
    writer.run("CREATE TABLE thing (thing_id int PRIMARY KEY)")
    before = read_survey([Table("thing")], reader).marks["thing"]
    writer.run("SELECT pg_stat_reset()")
    after = read_survey([Table("thing")], reader).marks["thing"]
    assert (before.history, before.writes != after.writes) == (after.history, True)


def test_a_table_that_is_not_there_can_be_asked_for_all_but_its_highest_id(totesys):
    reader = totesys.connect("reader")
    with pytest.raises(SourceError, match="missing"):
        read_survey([*map(Table, [*TABLES, "missing"])], reader)
    seen = read_survey([*map(Table, [*TABLES, "missing"])], reader, with_ids=False)
    assert seen.highest_ids == {}
    assert seen.declared["missing"] == ()
    assert all(seen.declared[table] for table in TABLES)
    assert {mark.snapshot for mark in seen.marks.values()} == {seen.marks["staff"].snapshot}


def test_no_table_is_read_but_at_the_ends_of_its_index(totesys):
    connection = totesys.connect()
    run, statements = connection.run, []

    def note_and_run(sql, **arguments):
        statements.append(sql)
        return run(sql, **arguments)

    connection.run = note_and_run
    read_survey([*map(Table, TABLES)], connection)
    [plan] = run(f"EXPLAIN (FORMAT JSON) {statements[-1]}")
    scans = {
        (node["Node Type"], node["Relation Name"])
        for node in nodes(plan[0][0]["Plan"])
        if node.get("Relation Name") in TABLES
    }
    assert scans == {("Index Only Scan", table) for table in TABLES}


def nodes(plan):
    yield plan
    for below in plan.get("Plans", []):
        yield from nodes(below)
