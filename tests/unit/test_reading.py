"""What `read_new` returns, asks for and refuses, on buckets made by hand."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest

from shared.bucket import New, keys, read_new
from shared.contracts import contract as contracts
from shared.errors import StateError
from shared.tables import Table
from tests.helpers.models.memory_s3 import MemoryS3

THING = Table("thing")
TIME = "2024-11-11T15-03-24"
LATEST = keys.format_latest_key(THING)
CONTRACT: dict[str, dict[str, Any]] = {
    "thing_id": {"x-postgresql-type": "integer", "type": "integer"},
    "price": {"x-postgresql-type": "numeric(10,2)", "type": ["number", "null"]},
    "paid": {"x-postgresql-type": "boolean", "type": ["boolean", "null"]},
    "at": {"x-postgresql-type": "timestamp without time zone", "type": ["string", "null"]},
}


@pytest.fixture
def s3():
    return MemoryS3()


def contract_text(columns):
    required = {"required": list(columns), "properties": columns}
    return json.dumps({"title": "thing"} | contracts.FRAME | required)


@pytest.fixture
def contract(tmp_path, monkeypatch):
    """Give the table a contract."""
    (tmp_path / "thing.json").write_text(contract_text(CONTRACT))
    monkeypatch.setattr(contracts, "FOLDER", tmp_path)
    contracts.load.cache_clear()
    yield
    contracts.load.cache_clear()


def data_key(end):
    return keys.format_data_key(THING, end, TIME)


def claim_key(above):
    return keys.format_claim_key(THING, above)


def change_key(number):
    return keys.format_change_key(THING, number)


def claim(s3, above, end):
    s3.put(claim_key(above), json.dumps({"key": data_key(end)}).encode())


def land(s3, above, end, *rows):
    """Land a batch, of one row if none is given."""
    claim(s3, above, end)
    s3.put_lines(data_key(end), list(rows) or [{"thing_id": end}])


def change(s3, number, *rows):
    s3.put_lines(change_key(number), list(rows))


def gone(row_id):
    return {"thing_id": row_id, "_deleted": True}


def read(s3, checkpoint=None, limit=None):
    client: Any = s3
    return read_new("thing", checkpoint, client, "bucket", limit)


def ids(new):
    return new.upserts["thing_id"].tolist()


def read_all(s3, limit):
    """Return the calls until nothing is new."""
    calls: list[New] = []
    checkpoint = None
    while True:
        new = read(s3, checkpoint, limit)
        if new.checkpoint == checkpoint:
            return calls
        calls.append(new)
        checkpoint = new.checkpoint


def test_the_last_line_of_an_id_counts(s3):
    rows = [{"thing_id": row_id, "name": "new"} for row_id in (1, 2, 3, 4)]
    land(s3, 0, 4, *rows)
    change(s3, 1, {"thing_id": 2, "name": "changed"}, gone(3))
    change(s3, 2, gone(4), gone(2), {"thing_id": 3, "name": "again"})
    change(s3, 3, {"thing_id": 2, "name": "once more"})
    new = read(s3)
    assert new.upserts.to_dict("records") == [
        {"thing_id": 1, "name": "new"},
        {"thing_id": 2, "name": "once more"},
        {"thing_id": 3, "name": "again"},
    ]
    assert new.deleted == [4]


def test_ids_are_not_in_the_order_of_their_keys(s3):
    above = 0
    for end in (2, 9, 10, 100):
        land(s3, above, end)
        above = end
    assert ids(read(s3)) == [2, 9, 10, 100]
    assert [ids(new) for new in read_all(s3, 1)] == [[2], [9], [10], [100]]


def test_nothing_new_is_two_requests_and_the_same_checkpoint(s3):
    above = 0
    for number in range(1, 1500):
        land(s3, above, number)
        change(s3, number, {"thing_id": number, "name": "a"})
        above = number
    s3.put(keys.format_change_latest_key(THING), b"{}")
    s3.put(keys.format_latest_key(THING), b"{}")
    read_before = read(s3)
    for limit in (None, 1):
        s3.requests.clear()
        new = read(s3, read_before.checkpoint, limit)
        assert s3.requests == {"ListObjectsV2": 1, "GetObject": 1}
        assert (len(new.upserts), new.deleted) == (0, [])
        assert new.checkpoint == read_before.checkpoint


def test_of_nothing_at_all_the_columns_have_their_types(s3, contract):
    new = read(s3)
    types = {"thing_id": "int64", "price": "object", "paid": "bool", "at": "datetime64[us]"}
    assert new.upserts.dtypes.astype(str).to_dict() == types
    assert (new.upserts.empty, new.deleted) == (True, [])
    assert read(s3, new.checkpoint).checkpoint == new.checkpoint


def test_a_long_walk_lists_instead_of_reading_each_claim(s3):
    above = 0
    for end in range(5, 1500, 5):
        land(s3, above, end)
        above = end
    assert len(read(s3).upserts) == 299
    # A claim and its object for each of 100 steps, then objects, and the claim that is not there.
    assert s3.requests == {"GetObject": 100 + 299 + 1, "ListObjectsV2": 1 + 2}


def test_objects_that_land_during_a_long_walk_are_read_too(s3):
    for end in range(1, 151):
        land(s3, end - 1, end)

    def land_another(request):
        end = int(request.rpartition("/")[2].removesuffix(".json"))
        if end in range(150, 180):
            land(s3, end, end + 1)

    s3.before = lambda request: land_another(request) if "GetObject claims/" in request else None
    assert ids(read(s3)) == list(range(1, 181))


def test_a_limit_bounds_the_rows_and_ends_with_the_same(s3):
    above = 0
    for end in (3, 5, 9, 10):
        land(s3, above, end, *({"thing_id": row_id} for row_id in range(above + 1, end + 1)))
        above = end
    change(s3, 1, *({"thing_id": row_id, "name": "changed"} for row_id in (1, 2)))
    change(s3, 2, gone(7))
    calls = read_all(s3, 4)
    assert [ids(new) for new in calls] == [[1, 2, 3, 4, 5], [6, 7, 8, 9], [1, 2, 10]]
    assert [new.deleted for new in calls] == [[], [], [7]]
    assert [ids(new) for new in read_all(s3, 1)][-3:] == [[10], [1, 2], []]


def test_with_a_limit_no_more_keys_are_listed_than_are_read(s3):
    land(s3, 0, 1)
    for number in range(1, 3500):
        change(s3, number, {"thing_id": 1, "name": str(number)})
    start = read(s3, limit=1)
    s3.requests.clear()
    assert read(s3, start.checkpoint, 5).checkpoint == "thing/1/5"
    assert s3.requests == {"ListObjectsV2": 1, "GetObject": 1 + 5}


def test_changes_that_were_not_listed_before_the_rows_are_left_for_the_next_call(s3):
    """Or a change might come before its row's first version, which would overwrite it."""
    land(s3, 0, 1)

    def after_the_listing(request):
        if request.startswith("GetObject"):
            s3.before = lambda _: None
            change(s3, 1, {"thing_id": 1, "name": "changed"})

    s3.before = after_the_listing
    new = read(s3)
    assert new.checkpoint == "thing/1/0"
    assert read(s3, new.checkpoint).checkpoint == "thing/1/1"


def test_a_batch_that_is_claimed_and_has_not_landed_is_the_end(s3):
    land(s3, 0, 1)
    claim(s3, 1, 2)
    assert read(s3).checkpoint == "thing/1/0"
    s3.put_lines(data_key(2), [{"thing_id": 2}])
    assert read(s3).checkpoint == "thing/2/0"


def latest(s3, end):
    content = {"latest_row_id": end, "timestamp": TIME, "rows_ingested": 1}
    s3.objects[LATEST] = (json.dumps(content).encode(), {})


def test_nor_is_it_lost_if_it_lands_while_we_look(s3):
    claim(s3, 0, 1)

    def land_it(request):
        if request == f"GetObject {LATEST}":
            land(s3, 0, 1)
            latest(s3, 1)

    s3.before = land_it
    assert read(s3).checkpoint == "thing/1/0"


@pytest.mark.parametrize("batches", [3, 150])
def test_a_load_lands_in_any_order_and_is_read_up_to_its_first_hole(s3, batches):
    for end in range(1, batches + 1):
        claim(s3, end - 1, end)
    holes = {batches // 2, batches - 1}
    for end in sorted(set(range(1, batches + 1)) - holes, key=str):
        s3.put_lines(data_key(end), [{"thing_id": end}])
    change(s3, 1, *([{"thing_id": 1, "name": "changed"}] if batches > 3 else []))
    latest(s3, min(holes) - 1)
    checkpoint, seen = None, [0]
    for hole in sorted(holes):
        new = read(s3, checkpoint)
        assert set(ids(new)) - {1} == set(range(seen[-1] + 1, hole)) - {1}
        assert new.checkpoint == f"thing/{hole - 1}/1"
        assert read(s3, new.checkpoint).checkpoint == new.checkpoint
        s3.put_lines(data_key(hole), [{"thing_id": hole}])
        checkpoint, seen = new.checkpoint, [*seen, hole - 1]
    assert ids(read(s3, checkpoint))[-1] == batches
    assert len(read(s3).upserts) == batches


def test_below_latest_json_a_missing_object_is_lost(s3):
    for end in (1, 2, 3):
        land(s3, end - 1, end)
    del s3.objects[data_key(2)]
    assert read(s3).checkpoint == "thing/1/0"
    latest(s3, 1)
    assert read(s3).checkpoint == "thing/1/0"
    for end in (2, 3):
        latest(s3, end)
        with pytest.raises(StateError, match=data_key(2)):
            read(s3)


def test_an_object_may_be_empty(s3):
    """Its rows were deleted between the claim and the object."""
    claim(s3, 0, 2)
    s3.put_lines(data_key(2), [])
    land(s3, 2, 3)
    assert ids(read(s3)) == [3]
    assert [new.checkpoint for new in read_all(s3, 1)] == ["thing/3/0"]


def lose(key):
    return lambda s3: s3.objects.pop(key)


def replace(key, body, **metadata):
    return lambda s3: s3.objects.update({key: (body, metadata)})


BROKEN = {
    "an object that has landed is lost": (lose(data_key(1)), data_key(1)),
    "an object of changes is lost": (lose(change_key(1)), change_key(1)),
    "a claim is no JSON": (replace(claim_key(1), b"{"), claim_key(1)),
    "a claim names another table's object": (
        replace(claim_key(1), b'{"key": "payment/2-2024-11-11T15-03-24.jsonl"}'),
        claim_key(1),
    ),
    "a claim leads back": (
        replace(claim_key(1), json.dumps({"key": data_key(1)}).encode()),
        claim_key(1),
    ),
    "the last line has no line feed": (replace(data_key(1), b'{"thing_id": 1}'), data_key(1)),
    "lines are missing": (replace(data_key(1), b'{"thing_id": 1}\n', rows="2"), data_key(1)),
    "a line is no JSON": (
        replace(change_key(2), b'{"thing_id":1}\n{"thing_id":secret\n'),
        f"s3://bucket/{change_key(2)} is altered: its line 2",
    ),
    "two halves of a line": (
        replace(data_key(1), b'{"thing_id":1\n"name":"secret"}\n'),
        f"s3://bucket/{data_key(1)} is altered: its line 1",
    ),
    "a line has two rows": (
        replace(data_key(1), b'{"thing_id":1},{"thing_id":1}\n'),
        f"s3://bucket/{data_key(1)} is altered: its line 1",
    ),
    "a line is no object": (
        replace(data_key(1), b"[1]\n"),
        f"s3://bucket/{data_key(1)} is altered: its line 1",
    ),
    "a line has NaN": (
        replace(data_key(1), b'{"thing_id":1,"name":NaN}\n'),
        f"s3://bucket/{data_key(1)} is altered: its line 1",
    ),
    "a line is no UTF-8": (replace(data_key(1), b'{"thing_id":1,"name":"\xff"}\n'), data_key(1)),
    "a line has no id": (replace(data_key(1), b'{"name":"secret"}\n'), data_key(1)),
    "an id is a text": (replace(data_key(1), b'{"thing_id":"secret"}\n'), data_key(1)),
    "an id is true": (replace(data_key(1), b'{"thing_id":true}\n'), data_key(1)),
    "an id is no bigint": (
        replace(data_key(1), b'{"thing_id":9223372036854775808}\n'),
        data_key(1),
    ),
    "changes of rows behind a lost claim": (lose(claim_key(1)), claim_key(1)),
}


@pytest.mark.parametrize("limit", [None, 1])
@pytest.mark.parametrize("name", BROKEN)
def test_what_is_missing_or_malformed_is_named(s3, name, limit):
    land(s3, 0, 1)
    land(s3, 1, 2)
    change(s3, 1, {"thing_id": 1, "name": "a"})
    change(s3, 2, {"thing_id": 2, "name": "a"})
    latest(s3, 2)
    break_it, named = BROKEN[name]
    break_it(s3)
    with pytest.raises(StateError, match="Restore") as raised:
        read_all(s3, limit)
    assert named in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_claim_that_is_missing_before_others_is_named_after_a_long_walk(s3):
    above = 0
    for end in range(1, 200):
        land(s3, above, end)
        above = end
    lose(claim_key(150))(s3)
    with pytest.raises(StateError, match=r"claims/thing/150\.json is missing"):
        read(s3)


CHECKPOINTS = [
    *("", "{}", "thing", "thing/1", "thing/1/", "thing/1/2/3", "thing/-1/2", "thing/1/2\n"),
    *("thing/1.5/2", "payment/1/2", "thing/\u0661/2", f"thing/{'9' * 20}/1"),
    *(5, b"thing/1/2", ("thing", 1, 2)),
]


@pytest.mark.parametrize("checkpoint", CHECKPOINTS)
def test_what_is_no_checkpoint_of_the_table_is_refused(s3, checkpoint):
    with pytest.raises(
        StateError, match=r"is not a checkpoint of 'thing'.*None to read everything"
    ):
        read(s3, checkpoint)
    assert not s3.requests


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_below_one_is_refused(s3, limit):
    with pytest.raises(ValueError, match="at least 1"):
        read(s3, limit=limit)


def test_columns_come_and_go(s3, contract):
    land(s3, 0, 2, {"thing_id": 1}, {"thing_id": 2, "price": 3.5, "at": None})
    change(s3, 1, {"thing_id": 2, "price": 3.5, "paid": True, "at": "2024-11-11T15:03:24.000001"})
    land(s3, 2, 4, {"thing_id": 3, "color": "red", "size": {"x": [1.5]}}, {"thing_id": 4})
    upserts = read(s3).upserts
    assert list(upserts) == ["thing_id", "price", "paid", "at", "color", "size"]
    assert upserts["price"].tolist() == [None, Decimal("3.5"), None, None]
    assert str(upserts["paid"].dtype) == "boolean"
    assert str(upserts["at"].dtype) == "datetime64[us]"
    assert upserts["color"].tolist() == [None, None, "red", None]
    assert upserts["size"].tolist() == [None, None, {"x": [Decimal("1.5")]}, None]


def test_values_that_break_their_contract_are_objects_as_they_are(s3, contract):
    land(s3, 0, 1, {"thing_id": 1, "price": "much", "paid": 1, "at": "at noon"})
    land(s3, 1, 2, {"thing_id": 2, "price": 3.5, "paid": True, "at": "2024-11-11T15:03:24.000001"})
    upserts = read(s3).upserts
    assert upserts["price"].tolist() == ["much", Decimal("3.5")]
    assert [*map(type, upserts["paid"])] == [int, bool]
    assert upserts["at"].tolist()[0] == "at noon"
    assert read(s3, "thing/1/0").upserts["paid"].dtype == bool


def test_types_are_those_of_the_rows_that_are_left(s3, contract):
    land(s3, 0, 2, {"thing_id": 1, "paid": None, "at": "infinity"}, {"thing_id": 2, "paid": True,
         "at": "2024-11-11T15:03:24.000001"})  # fmt: skip
    change(s3, 1, gone(1))
    types = read(s3).upserts.dtypes.astype(str)
    assert (types["paid"], types["at"]) == ("bool", "datetime64[us]")


def test_what_is_dropped_is_not_handed_out_and_what_is_hashed_is_text(s3, contract):
    forms = {"price": "hash", "paid": "drop", "at": "hash"}
    columns = {name: {**CONTRACT[name], "x-land": forms[name]} for name in forms}
    (contracts.FOLDER / "thing.json").write_text(contract_text(CONTRACT | columns))
    before: dict[str, Any] = {"price": 3.5, "paid": True, "at": "2024-11-11T15:03:24.000001"}
    hashes: dict[str, Any] = {"price": "1" * 64, "at": "a" * 64}
    land(s3, 0, 2, {"thing_id": 1} | before, {"thing_id": 2} | before)
    land(s3, 2, 4, {"thing_id": 3} | hashes, {"thing_id": 4, "price": None, "at": None})
    change(s3, 1, {"thing_id": 2} | hashes)
    old, new = read(s3, limit=1).upserts, read(s3, "thing/2/0").upserts
    assert list(old) == list(new) == ["thing_id", "price", "at"]
    assert new.to_dict("list") == {
        "thing_id": [2, 3, 4],
        "price": ["1" * 64, "1" * 64, None],
        "at": ["a" * 64, "a" * 64, None],
    }
    land(s3, 4, 5, {"thing_id": 5, "price": None, "at": None})
    assert read(s3, "thing/4/1").upserts["at"].dtype == object
    # As it landed, until the row lands once more: docs/personal-data.md, Change it later.
    assert old["price"].tolist() == [Decimal("3.5")] * 2
    assert read(s3).upserts["price"].tolist()[:2] == [Decimal("3.5"), "1" * 64]


def test_where_a_column_is_called_deleted_no_line_is_a_tombstone(s3, contract):
    deleted = {"x-postgresql-type": "boolean", "type": "boolean"}
    (contracts.FOLDER / "thing.json").write_text(contract_text(CONTRACT | {"_deleted": deleted}))
    land(s3, 0, 1)
    change(s3, 1, gone(1))
    new = read(s3)
    assert (ids(new), new.deleted) == ([1], [])


@pytest.mark.parametrize(
    "line",
    [
        {"thing_id": 1, "_deleted": False},
        {"thing_id": 1, "_deleted": 1},
        {"thing_id": 1, "_deleted": True, "name": "a"},
    ],
)
def test_a_tombstone_has_exactly_two_members(s3, line):
    land(s3, 0, 1)
    change(s3, 1, line)
    new = read(s3)
    assert (ids(new), new.deleted) == ([1], [])
