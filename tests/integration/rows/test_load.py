"""A load: what it plans, what it refuses before its first claim, what it lands, how it ends."""

from __future__ import annotations

from contextlib import closing
from itertools import count

import pytest

from services.ingestion import plan
from services.ingestion.handler import lambda_handler
from shared.bucket import keys
from shared.bucket.planned import list_planned
from shared.errors import ConfigError, LoadError, SourceError, SourceUnavailableError, StateError
from shared.postgres.cuts import read_cut
from shared.tables import TABLES, Table
from tests.helpers.oracle import landed
from tests.helpers.oracle.exactly_once import content
from tests.helpers.runs.lambda_context import CONTEXT
from tests.helpers.runs.loading import Loading
from tests.helpers.runs.place import Place

pytestmark = pytest.mark.thorough

DESIGN = "CREATE TABLE design (design_id serial PRIMARY KEY, name text NOT NULL DEFAULT 'new')"
TABLE = Table("design")
NOTHING_YET = {"rows": 0, "batches": 0}


def insert(rows):
    return f"INSERT INTO design (name) SELECT 'some' FROM generate_series(1, {rows})"


@pytest.fixture
def place(database, bucket):
    """A table of 100 rows of which nothing has landed; a batch has 10 rows at most."""
    place = Place(database, bucket, ["design"], {}, batch_rows=10)
    place.execute(DESIGN, insert(100))
    return place


@pytest.fixture
def loading(place):
    return Loading(place)


def claims(place):
    return [key for key in content(place.bucket) if key.startswith("claims/")]


def batches(planned):
    return [(each["above"], each["up_to"]) for each in planned["items"]]


def test_a_load_lands_each_row_once(place, loading):
    done = loading.run()
    assert (done["rows"], done["batches"], done["failed"]) == (100, 10, 0)
    assert not done["run"]["more"]
    place.check()


def test_the_items_land_in_any_order_and_in_calls_of_a_batch_each(place, loading):
    planned = loading.plan(batches_a_call=3)
    assert batches(planned) == [(n, n + 10) for n in range(0, 100, 10)]
    assert (planned["batches"], planned["workers"], planned["up_to"]) == (10, 3, 100)
    done = [loading.land(item, batches_a_call=1) for item in reversed(planned["items"])]
    assert landed.ids(place.bucket, "design") == list(range(1, 101))
    assert sum(each["rows"] for each in done) == 100
    loading.finish(done)
    place.check()


def test_a_plan_goes_on_where_its_last_call_had_to_stop(place, loading):
    first = loading.plan_once({"table": "design", "workers": 2}, batches=3)
    load = {"table": "design", "workers": 2, "up_to": 100}
    assert first == load | {"above": 30, "more": True}
    place.execute(insert(5))
    last = loading.plan_once(first)
    assert last["items"][-1] == {"table": "design", "above": 90, "up_to": 100} | NOTHING_YET
    assert {key: last[key] for key in load} == load


def test_a_worker_goes_on_where_its_last_call_had_to_stop(place, loading):
    loading.plan()
    whole = {"table": "design", "above": 10, "up_to": 60}
    first = loading.land_once(whole, batches=2)
    assert first == whole | {"above": 30, "rows": 20, "batches": 2, "more": True}
    assert landed.ids(place.bucket, "design") == list(range(11, 31))
    last = loading.land_once(first, batches=3)
    assert last == whole | {"above": 60, "rows": 50, "batches": 5, "more": False}
    assert landed.ids(place.bucket, "design") == list(range(11, 61))


def test_rows_that_come_meanwhile_are_landed_by_the_run_at_its_end(place, loading):
    planned = loading.plan(batches_a_call=1)
    place.execute(insert(5))
    assert planned["up_to"] == 100
    done = loading.finish([loading.land(item) for item in planned["items"]])
    assert (done["rows"], done["run"]["rows"]) == (100, 5)
    place.check()


def test_a_load_goes_on_where_runs_have_come(place, loading):
    place.run()
    place.execute(insert(25))
    planned = loading.plan()
    assert batches(planned) == [(100, 110), (110, 120), (120, 125)]
    loading.finish(map(loading.land, planned["items"]))
    place.check()


def test_a_table_of_which_all_has_landed_needs_no_workers(place, loading):
    place.run()
    assert loading.plan()["items"] == []
    assert loading.run()["rows"] == 0
    place.check()


def test_a_second_load_lands_what_the_first_has_claimed(place, loading):
    first = loading.plan()
    loading.land(first["items"][0])
    place.execute(insert(5))
    second = loading.plan()
    assert batches(second) == [*batches(first)[1:], (100, 105)]
    loading.finish(map(loading.land, second["items"]))
    place.check()


@pytest.mark.parametrize(
    "statements",
    [
        ["DELETE FROM design WHERE design_id IN (13, 19, 20)"],
        ["DELETE FROM design WHERE design_id > 40 AND design_id <= 60"],
    ],
    ids=["smaller", "empty"],
)
def test_rows_that_were_deleted_after_the_plan_make_batches_smaller(place, loading, statements):
    planned = loading.plan()
    place.execute(*statements)
    done = [loading.land(item) for item in planned["items"]]
    assert sum(each["batches"] for each in done) == 10
    loading.finish(done)
    place.check()


@pytest.mark.parametrize("ids", [(), (-3, 0)], ids=["no rows", "ids below 1"])
def test_a_table_without_rows_to_land_is_loaded_at_once(place, loading, ids):
    place.execute("TRUNCATE design", *(f"INSERT INTO design VALUES ({each})" for each in ids))
    assert loading.run()["rows"] == 0
    assert claims(place) == []


def test_ids_below_1_are_in_no_batch(place, loading):
    place.execute("INSERT INTO design VALUES (-3), (0)")
    loading.run()
    assert landed.ids(place.bucket, "design") == list(range(1, 101))


# What must not be found only once there are claims.


def without_id(place):
    place.execute("ALTER TABLE design RENAME design_id TO id")


def without_table(place):
    place.execute("DROP TABLE design")


def without_right(place):
    place.execute(
        "REVOKE SELECT ON design FROM reader", "GRANT SELECT (design_id) ON design TO reader"
    )


def hidden(place):
    place.execute("ALTER TABLE design ENABLE ROW LEVEL SECURITY")


@pytest.mark.parametrize("spoil", [without_id, without_table, without_right, hidden])
def test_what_no_worker_could_read_is_refused_before_the_first_claim(place, loading, spoil):
    spoil(place)
    with pytest.raises(SourceError, match="design"):
        loading.plan()
    assert content(place.bucket) == {}


def test_a_survey_that_fails_is_no_load_without_a_mark(place, loading, monkeypatch):
    """A run does without a survey; after a load every row would be a change."""

    def fail(*_, **__):
        raise SourceUnavailableError("lock timeout")

    monkeypatch.setattr("services.ingestion.standing.read_survey", fail)
    with pytest.raises(SourceUnavailableError, match="'design' could not be surveyed"):
        loading.plan()
    assert content(place.bucket) == {}


def test_a_table_that_is_declared_anew_between_two_cuts_is_planned_again(
    place, loading, monkeypatch
):
    place.execute("ALTER TABLE design ADD note text")
    cuts = count()

    def cut(*asked):
        if next(cuts) == 1:
            place.execute("ALTER TABLE design DROP note")
        return read_cut(*asked)

    monkeypatch.setattr("services.ingestion.plan.read_cut", cut)
    with pytest.raises(SourceUnavailableError, match="declared anew"):
        loading.plan()
    loading.run()
    place.check()


def test_personal_data_without_a_key_is_refused_before_the_first_claim(
    place, loading, database, x_land
):
    x_land("design", database.connect("reader"), name="hash")
    database.secret["hash_key"] = ""
    with pytest.raises(ConfigError, match="hash_key"):
        loading.plan()
    assert content(place.bucket) == {}


def test_what_can_not_be_rendered_is_refused_before_the_first_claim(place, loading, monkeypatch):
    def refuse(_):
        raise TypeError("no exact JSON form")

    monkeypatch.setattr("services.ingestion.plan.render", refuse)
    with pytest.raises(TypeError):
        loading.plan()
    assert claims(place) == []


@pytest.mark.parametrize(
    ("limit", "unlimited", "named"),
    [
        ("ALTER ROLE reader CONNECTION LIMIT 9", "ALTER ROLE reader CONNECTION LIMIT -1", "role"),
        ("ALTER DATABASE {} CONNECTION LIMIT 9", "", "database"),
    ],
)
def test_more_workers_than_connections_are_refused(place, limit, unlimited, named):
    place.execute(limit.format(place.database.name))
    try:
        with pytest.raises(SourceError, match=rf"The {named} .* allows 9, of which \d+ are in use"):
            Loading(place, workers=7).plan()
        assert content(place.bucket) == {}
        assert Loading(place, workers=3).plan()["batches"] == 10  # sessions of before may linger
    finally:
        if unlimited:
            place.execute(unlimited)


def test_more_workers_than_the_server_takes_are_refused(place):
    with pytest.raises(SourceError, match=r"max_connections.*fewer workers, \d+ at most"):
        Loading(place, workers=100).plan()
    assert content(place.bucket) == {}


# The writers that are open when the load begins.


def test_an_open_writer_is_named_and_nothing_is_claimed(place, loading, database):
    with closing(database.connect()) as writer:
        writer.run("BEGIN")
        writer.run(insert(1))
        place.execute(insert(1))
        with pytest.raises(SourceUnavailableError, match=r"pg_terminate_backend\(\d+\)") as failure:
            loading.plan_once({"table": "design"}, batches=-1)
        assert "postgres" in str(failure.value)
        assert content(place.bucket) == {}
        writer.run("ROLLBACK")
    loading.run()
    place.check()


def test_a_load_that_waits_says_for_whom(place, loading, database, log_lines, monkeypatch):
    monkeypatch.setattr(plan, "_SHORT_WAIT", 0.0)
    with closing(database.connect()) as writer:
        writer.run("BEGIN")
        writer.run(insert(1))
        with pytest.raises(SourceUnavailableError):
            loading.plan_once({"table": "design"}, batches=-1)
        [line] = [each for each in log_lines() if "waits for transactions" in each["message"]]
        assert (line["level"], line["table"]) == ("WARNING", "design")
        [[pid]] = writer.run("SELECT pg_backend_pid()")
        [transaction] = line["transactions"]
        assert transaction["end_with"] == f"SELECT pg_terminate_backend({pid})"
        writer.run("ROLLBACK")
    loading.run()
    assert [each for each in log_lines() if "waits for transactions" in each["message"]] == [line]


def test_a_row_that_is_committed_late_is_in_its_batch(place, loading, database):
    with closing(database.connect()) as writer:
        writer.run("BEGIN")
        writer.run(insert(1))
        place.execute(insert(1))

        def step(words):
            if words.startswith("after WITH RECURSIVE up"):
                writer.run("COMMIT")

        planned = loading.plan(step)
    assert planned["up_to"] == 102
    loading.finish(map(loading.land, planned["items"]))
    assert 101 in landed.ids(place.bucket, "design")
    place.check()


def test_a_writer_that_begins_later_is_not_waited_for_and_has_no_row_in_the_load(
    place, loading, database
):
    with closing(database.connect()) as writer:

        def step(words):
            if words.startswith("before WITH RECURSIVE up"):
                place.execute(insert(1))
            if words.startswith("after WITH RECURSIVE up"):
                writer.run("BEGIN")
                writer.run(insert(1))
                place.execute(insert(1))

        planned = loading.plan_once({"table": "design"}, step, batches=20)
        assert planned["up_to"] == 100
        writer.run("COMMIT")
    loading.finish(map(loading.land, planned["items"]))
    place.check()


# The change stream.


def state(place):
    return content(place.bucket).get(keys.format_change_latest_key(TABLE))


def test_the_mark_is_saved_before_the_first_claim_and_not_moved(place, bucket, database):
    place = Place(database, bucket, ["design"], {}, batch_rows=10, with_changes=True)
    loading = Loading(place)
    seen = []

    def step(words):
        if "claims/design/0.json" in words and words.startswith("before PutObject"):
            seen.append(state(place))

    planned = loading.plan(step)
    [before] = seen
    assert before is not None
    for item in planned["items"]:
        loading.land(item)
        place.execute(
            "UPDATE design SET name = 'changed' WHERE design_id IN (5, 55, 95)",
            f"UPDATE design SET name = 'again' WHERE design_id = {item['up_to']}",
        )
    loading.plan()
    assert state(place) == before
    loading.finish([])
    place.run()
    place.check()


# The end.


def failing(item, error="LandingUnavailableError"):
    return {"table": item["table"], "above": item["above"], "up_to": item["up_to"], "error": error}


def test_what_no_worker_and_no_run_has_landed_fails_the_load(place, loading):
    *others, last = loading.plan()["items"]
    done = [*map(loading.land, others), failing(last, "Runtime.ExitError")]
    with pytest.raises(LoadError, match=r"1 batches of 'design'.* above id 90\..*Runtime\.ExitErr"):
        loading.finish(done, batches=0)
    loading.run()
    place.check()


def test_what_a_worker_landed_in_calls_before_it_failed_is_counted(place, loading):
    *others, last = loading.plan()["items"]
    whole = {"table": "design", "above": 0, "up_to": others[-1]["up_to"]}
    first = loading.land_once(whole, batches=4)
    loading.land_once(first, batches=2)  # and fails then, so what it returns gets lost
    done = loading.finish([first | {"error": "Sandbox.Timedout"}, loading.land(last)])
    assert (done["failed"], done["rows"], done["batches"]) == (1, 50, 5)
    place.check()


def test_what_the_last_run_has_landed_fails_nothing(place, loading):
    *others, last = loading.plan()["items"]
    done = loading.finish([*map(loading.land, others), failing(last)])
    assert (done["failed"], done["rows"]) == (1, 90)
    place.check()


def test_a_lost_claim_is_named_by_the_worker_that_comes_to_it(place, loading):
    items = loading.plan()["items"]
    lost = keys.format_claim_key(TABLE, 30)
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=lost)
    whole = {"table": "design", "above": 0, "up_to": items[-1]["up_to"]}
    with pytest.raises(StateError, match=lost):
        loading.land(whole)
    assert landed.ids(place.bucket, "design") == list(range(1, 31))


def test_nothing_is_claimed_behind_a_claim_that_was_lost(place, loading):
    place.run()
    lost = keys.format_claim_key(TABLE, 90)
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=lost)
    place.execute(insert(5))
    with pytest.raises(StateError, match=lost):
        loading.plan()


def test_batches_are_planned_by_their_bounds(place, loading):
    assert list_planned(TABLE, place.bucket) == []
    items = loading.plan()["items"]
    loading.land(items[4])
    planned = list_planned(TABLE, place.bucket)
    assert [(each.above, each.up_to) for each in planned] == batches({"items": items})
    assert [each.above for each in planned if each.has_landed] == [40]


# Through the handler, as the state machine calls it.


def test_a_load_by_events(deployed, totesys, bucket, monkeypatch):
    monkeypatch.setenv("BATCH_ROWS", "50")
    planned = lambda_handler({"plan": {"table": "payment", "workers": 2}}, CONTEXT)
    assert len(planned["items"]) == 6
    done = [lambda_handler({"land": item}, CONTEXT) for item in planned["items"]]
    assert {each["more"] for each in done} == {False}
    end = lambda_handler({"finish": {"table": "payment", "items": done}}, CONTEXT)
    assert (end["rows"], end["failed"]) == (300, 0)
    Place(totesys, bucket, list(TABLES), {}, with_changes=True).check()
