"""A table whose changes can't be found says so in each run, and its new rows land all the same."""

from __future__ import annotations

from contextlib import closing

import pytest

from services.reconciliation import reconcile
from shared.postgres.survey import read_survey
from shared.tables import Table
from tests.helpers.oracle import landed
from tests.helpers.runs.changing import INSERT, changed, changing, update, write

pytestmark = pytest.mark.thorough

GRANTS = {
    "SELECT ON pg_stat_archiver": "pg_stat_archiver",
    "EXECUTE ON FUNCTION pg_current_snapshot()": "pg_current_snapshot",
    "EXECUTE ON FUNCTION pg_postmaster_start_time()": "pg_postmaster_start_time",
    "EXECUTE ON FUNCTION pg_relation_filenode(regclass)": "pg_relation_filenode",
}


def lines(log_lines, level):
    return [line for line in log_lines() if line["level"] == level and "message" in line]


@pytest.mark.parametrize(("right", "name"), GRANTS.items())
def test_a_missing_grant_is_an_error_in_each_run(database, bucket, log_lines, right, name):
    place = changing(database, bucket)
    write(place, f"REVOKE {right} FROM PUBLIC", INSERT, update(1))
    for times in (1, 2):
        place.run()
        errors = lines(log_lines, "ERROR")
        assert len(errors) == times
        assert "permission denied for" in errors[-1]["reason"]
        assert name in errors[-1]["reason"]
        assert "GRANT" in errors[-1]["reason"]
    assert landed.ids(bucket, "thing") == [*range(1, 7)]
    assert changed(place) == []
    write(place, f"GRANT {right} TO PUBLIC")
    place.run()
    assert changed(place) == [[1, 4, 5, 6]]  # the last three landed without a mark


VIEW = (
    "CREATE TABLE base (thing_id serial PRIMARY KEY, name text)",
    "CREATE VIEW thing AS SELECT * FROM base",
)
NONE = "This table has no change stream"


def test_a_view_has_none_and_says_so_once_a_run(database, bucket, log_lines):
    place = changing(database, bucket, *VIEW)
    write(place, INSERT, "UPDATE thing SET name = 'other' WHERE thing_id = 1")
    for times in (2, 3):
        place.run()
        said = [line for line in lines(log_lines, "WARNING") if line["message"].startswith(NONE)]
        assert [line["table"] for line in said] == ["thing"] * times
    assert landed.ids(bucket, "thing") == [*range(1, 7)]
    assert changed(place) == []


def test_a_row_that_a_view_misses_is_missing(database, bucket):
    """It is not pending: there is no change stream that will deliver it."""
    place = changing(database, bucket, *VIEW)
    write(place, "INSERT INTO base VALUES (-5, 'late')", "DELETE FROM base WHERE thing_id = 2")
    with closing(place.session()) as session:
        found = reconcile("thing", bucket.client, session, bucket.name)
    assert (found.missing.tolist(), found.deleted.tolist(), found.pending) == ([-5], [2], 0)


FOREIGN = "FOREIGN DATA WRAPPER none; CREATE SERVER away FOREIGN DATA WRAPPER none"
RELATIONS = {
    "CREATE TABLE thing (thing_id int)": True,
    "CREATE TABLE thing (thing_id int) PARTITION BY RANGE (thing_id)": True,
    "CREATE MATERIALIZED VIEW thing AS SELECT 1 AS thing_id": True,
    "CREATE VIEW thing AS SELECT 1 AS thing_id": False,
    f"CREATE {FOREIGN}; CREATE FOREIGN TABLE thing (thing_id int) SERVER away": False,
    "CREATE TABLE thing (thing_id int) PARTITION BY RANGE (thing_id); "
    "CREATE TABLE here PARTITION OF thing FOR VALUES FROM (0) TO (9); "
    f"CREATE {FOREIGN}; CREATE FOREIGN TABLE part PARTITION OF thing DEFAULT SERVER away": False,
}


@pytest.mark.parametrize(("create", "has_versions"), RELATIONS.items())
def test_what_has_row_versions(database, create, has_versions):
    database.connect().run(create)
    seen = read_survey([Table("thing")], database.connect("reader"), with_ids=False)
    assert ("thing" in seen.marks) is has_versions
