"""A plan claims nothing where a claim was lost: rows would land twice, or never be read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from shared.errors import StateError
from tests.helpers.oracle.exactly_once import content
from tests.helpers.runs.loading import Loading
from tests.helpers.runs.place import Place

INSERT = "INSERT INTO design (name) SELECT 'some' FROM generate_series(1, {})"


@pytest.fixture
def place(database, bucket):
    place = Place(database, bucket, ["design"], {}, batch_rows=10)
    place.execute("CREATE TABLE design (design_id serial PRIMARY KEY, name text)")
    place.execute(INSERT.format(100))
    return place


def lose(place, key):
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)


@pytest.mark.parametrize("other", [Place.run, lambda place: Loading(place).plan()])
def test_behind_the_claims_of_others(place, other):
    """Others claim all of them while a plan is at work, and then one is lost."""
    met = list[object]()

    def step(words):
        if not met and words.startswith("before PutObject") and "claims/design/0.json" in words:
            met.append(other(place))
            lose(place, "claims/design/10.json")

    with pytest.raises(StateError, match=r"claims/design/10\.json is missing"):
        Loading(replace(place, batch_rows=15)).plan(step)
    assert met
    assert "claims/design/25.json" not in content(place.bucket)


def test_before_what_latest_json_says(place):
    place.run()
    lose(place, "claims/design/90.json")
    [key] = place.bucket.keys("design/100-")
    lose(place, key)
    place.execute(INSERT.format(25))
    with pytest.raises(StateError, match=r"claims/design/90\.json is missing"):
        Loading(place).plan()


def test_an_object_that_was_lost_is_not_landed_again(place):
    place.run()
    [key] = place.bucket.keys("design/20-")
    lose(place, key)
    place.execute(INSERT.format(25))
    items = Loading(place).plan()["items"]
    assert [item["above"] for item in items] == [100, 110, 120]
