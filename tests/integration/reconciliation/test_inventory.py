"""A night reads what is new, and finds what it would find if it read everything."""

from __future__ import annotations

import random
from collections import Counter
from contextlib import closing, suppress
from dataclasses import replace

import boto3
import numpy as np
import pytest

from services.reconciliation import reconcile
from services.reconciliation.ids import LOWEST_ID
from services.reconciliation.inventory import Proved, Said, Shard, unpack
from shared.bucket import keys
from shared.errors import StateError, UnfinishedError
from shared.postgres.session import disconnect
from shared.tables import Table
from tests.helpers.cases import one_in
from tests.helpers.faults import small_steps
from tests.helpers.faults.steps import on_every_step
from tests.helpers.oracle.exactly_once import content, restore
from tests.helpers.runs.changing import write
from tests.helpers.runs.place import Died, Place

pytestmark = pytest.mark.thorough

INSERT = "INSERT INTO thing (name) SELECT 'a' FROM generate_series(1, 3)"
THING = Table("thing")
LATEST = keys.format_inventory_key(THING)


@pytest.fixture
def place(database, bucket):
    """Ten batches of three rows have landed, and three rows changed."""
    place = Place(database, bucket, ["thing"], {}, with_changes=True, batch_rows=3)
    place.execute("CREATE TABLE thing (thing_id serial PRIMARY KEY, name text)", *[INSERT] * 10)
    place.run()
    place.run()
    write(place, "UPDATE thing SET name = 'b' WHERE thing_id IN (2, 5, 30)")
    place.run()
    return place


def look(place, step=None, **options):
    """Reconcile; return the findings without the time they took."""
    client, connection = boto3.client("s3"), place.session()
    on_every_step(client, connection, step or (lambda _: None))
    try:
        findings = reconcile("thing", client, connection, place.bucket.name, **options)
    finally:
        disconnect(connection)
    faults = {(fault.key, fault.what) for fault in findings.faults}
    ids = {"missing": findings.missing.tolist(), "deleted": findings.deleted.tolist()}
    figures = ("watermark", "rows_in_source", "rows_landed", "elsewhere", "pending", "without_id")
    return {name: getattr(findings, name) for name in figures} | ids | {"faults": faults}


def look_with_steps(place, **options):
    steps: list[str] = []
    return look(place, steps.append, **options), steps


def objects_read(steps):
    """Return how many claims and objects with rows were read."""
    reads = [step for step in steps if step.startswith("before GetObject")]
    return Counter(
        next((name for name in ("claims", "changes", "jsonl") if name in step), "other")
        for step in reads
        if "latest.json" not in step and "inventory" not in step
    )


def forget(place):
    """Delete the inventory; return it."""
    known = {key: found for key, found in content(place.bucket).items() if "inventory/" in key}
    for key in known:
        place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)
    return known


def key_of(place, last):
    [key] = [key for key in content(place.bucket) if key.startswith(f"thing/{last}-")]
    return key


def delete(place, key):
    place.bucket.client.delete_object(Bucket=place.bucket.name, Key=key)


# --- what it costs ---


def test_the_second_night_reads_nothing_that_the_first_one_has_read(place):
    first, steps = look_with_steps(place)
    # The last claim is the one that is not there: the one that a next batch would take.
    assert objects_read(steps) == {"claims": 11, "jsonl": 10, "changes": 1}
    second, steps = look_with_steps(place)
    assert second == first
    assert objects_read(steps) == {"claims": 1}
    assert not [step for step in steps if step.startswith("before Put")]


def test_a_night_reads_what_the_day_brought(place):
    look(place)
    place.execute(INSERT, INSERT)
    write(place, "UPDATE thing SET name = 'c' WHERE thing_id = 1")
    place.run()
    findings, steps = look_with_steps(place)
    assert (findings["rows_landed"], findings["rows_in_source"]) == (36, 36)
    assert objects_read(steps) == {"claims": 3, "jsonl": 2, "changes": 1}


@pytest.mark.parametrize("last", one_in(3, [15, 3, 30]))
def test_only_what_is_not_as_it_was_is_read_again(place, last, monkeypatch):
    small_steps.hold_few_batches(monkeypatch, 4)
    look(place)
    key = key_of(place, last)
    body, metadata = content(place.bucket)[key]
    restore(place.bucket, {key: (body[:-1], metadata)})
    for _ in range(2):  # what is wrong stays wrong
        findings, steps = look_with_steps(place)
        assert {fault for fault, _ in findings["faults"]} == {key}
        assert objects_read(steps)["jsonl"] == 1
    restore(place.bucket, {key: (body, metadata)})
    findings, steps = look_with_steps(place)
    assert findings["faults"] == set()
    assert objects_read(steps)["jsonl"] == 1
    assert objects_read(look_with_steps(place)[1])["jsonl"] == 0


# --- what it finds ---


@pytest.mark.parametrize("seed", one_in(40, range(40)))
def test_whatever_happened_it_finds_what_it_finds_without_an_inventory(place, seed, monkeypatch):
    """Objects, claims and rows come and go, and so does the inventory, in parts and in whole."""
    rng = random.Random(seed)
    small_steps.hold_few_batches(monkeypatch, rng.choice([1, 2, 3, 7, 100]))
    small_steps.hold_few_ids(monkeypatch, rng.choice([1, 5, 10, 1000]))
    small_steps.read_few_ids(monkeypatch, rng.choice([2, 100]))
    gone: dict[str, tuple[bytes, dict[str, str]]] = {}

    def some(folder):
        return [
            key
            for key in content(place.bucket)
            if key.startswith(folder) and not key.endswith("latest.json")
        ]

    def lose(folder):
        if found := some(folder):
            key = rng.choice(found)
            gone.setdefault(key, content(place.bucket)[key])
            delete(place, key)

    def alter(agreeing):
        key = rng.choice(some("thing/"))
        body, metadata = content(place.bucket)[key]
        gone.setdefault(key, (body, metadata))
        lines = body.splitlines(keepends=True)[1:]
        told = {"rows": str(len(lines))} if agreeing else metadata
        restore(place.bucket, {key: (b"".join(lines), told)})

    def put_back():
        if gone:
            key = rng.choice(list(gone))
            restore(place.bucket, {key: gone.pop(key)})

    def add_unclaimed():
        key = keys.format_data_key(THING, rng.randint(0, 30), "2031-01-01T00-00-00")
        restore(place.bucket, {key: content(place.bucket)[rng.choice(some("thing/"))]})

    def run():
        # What somebody took away from the chain stops it.
        with suppress(Exception):
            replace(place, batch_rows=rng.randint(1, 4)).run()

    def take_an_id():
        write(
            place,
            f"DELETE FROM thing WHERE thing_id = {rng.randint(1, 40)}",
            f"INSERT INTO thing VALUES ({rng.randint(1, 30)}, 'mine') ON CONFLICT DO NOTHING",
        )

    def spoil_inventory():
        key = rng.choice([LATEST, *some("inventory/")])
        if key == LATEST:
            restore(place.bucket, {key: (b"{", {})})
        else:
            delete(place, key)

    old: dict[str, tuple[bytes, dict[str, str]]] = {}

    def bring_back_old_inventory():
        restore(place.bucket, old)

    happenings = [
        lambda: look(place),
        lambda: place.execute(INSERT),
        lambda: write(place, f"UPDATE thing SET name = 'x' WHERE thing_id < {rng.randint(1, 40)}"),
        *[take_an_id] * 2,
        *[run] * 4,
        *[put_back] * 2,
        lambda: lose("thing/"),
        lambda: lose("claims/"),
        lambda: lose("changes/"),
        lambda: alter(agreeing=True),
        lambda: alter(agreeing=False),
        add_unclaimed,
        spoil_inventory,
        bring_back_old_inventory,
    ]

    def without_names_of_claims(findings):
        """Where a shard ends, two claims are missing that otherwise are one stretch."""
        faults = {
            ("a claim", "") if "claims/" in key else (key, w) for key, w in findings["faults"]
        }
        return findings | {"faults": faults}

    for happens in rng.choices(happenings, k=14 if seed else 4):  # the short one is seed 0
        happens()
        # Neither says in the change stream what it finds, or the second would find something else.
        with_inventory = look(place, with_deletes=False)
        known = forget(place)
        found = look(place, with_deletes=False)
        assert without_names_of_claims(found) == without_names_of_claims(with_inventory), happens
        forget(place)
        restore(place.bucket, known)
        if rng.random() < 0.3:
            old = known


# --- who disturbs it ---

# The first step that is disturbed, and how many there are between two.
SOME_STEPS = pytest.mark.parametrize(
    ("first", "stride"), [(3, 41), pytest.param(0, 1, marks=pytest.mark.long)]
)


@SOME_STEPS
def test_wherever_it_dies_the_next_one_finds_the_same(place, monkeypatch, first, stride):
    small_steps.hold_few_batches(monkeypatch, 4)
    expected, steps = look_with_steps(place)
    for point in range(first, len(steps), stride):
        forget(place)
        left = iter(range(point))

        def die(_, left=left):
            if next(left, None) is None:
                raise Died

        with pytest.raises(Died):
            look(place, die)
        assert look(place) == expected, steps[point]


@SOME_STEPS
def test_two_at_once_find_the_same(place, monkeypatch, first, stride):
    """Another one runs, from its begin to its end, before a step of the first."""
    small_steps.hold_few_batches(monkeypatch, 4)
    expected, steps = look_with_steps(place)
    for point in range(first, len(steps), stride):
        forget(place)
        others: list[object] = []
        left = iter(range(point))

        def look_meanwhile(_, others=others, left=left):
            if next(left, None) is None and not others:
                others.append(None)
                others.append(look(place))

        assert look(place, look_meanwhile) == expected, steps[point]
        assert others[1] == expected
        assert look(place) == expected


def test_a_call_without_time_goes_on_where_it_stopped(place, monkeypatch):
    small_steps.hold_few_batches(monkeypatch, 4)
    expected = look(place)
    write(place, *[f"UPDATE thing SET name = 'y' WHERE thing_id = {n}" for n in (3, 6)])
    place.run()
    write(place, "UPDATE thing SET name = 'z' WHERE thing_id = 3")
    place.run()
    forget(place)
    read: Counter[str] = Counter()
    calls = 0
    while True:
        calls += 1
        steps: list[str] = []
        left = iter([True, True, False])
        findings = None
        with suppress(UnfinishedError):
            findings = look(place, steps.append, is_time_left=lambda left=left: next(left, False))
        read.update(objects_read(steps))
        if findings:
            break
    assert calls >= 4
    assert findings == expected
    # Each object was read once, but for those that several requests were made for at once.
    assert read["changes"] <= 3 + calls
    assert read["jsonl"] <= 10 + 8 * calls


def test_a_shard_that_is_not_ours_is_named(place):
    look(place)
    shard = keys.format_shard_key(THING, 0)
    restore(place.bucket, {shard: (b"not a zip", {})})
    listed = {each.key: each.etag for each in place.bucket.list(keys.inventory_folder(THING))}
    latest = content(place.bucket)[LATEST][0].decode()
    [etag] = [part for part in latest.split('"') if len(part.strip("\\")) == 32]
    told = latest.replace(etag.strip("\\"), listed[shard].strip('"'))
    restore(place.bucket, {LATEST: (told.encode(), {})})
    delete(place, key_of(place, 3))
    with pytest.raises(StateError, match=r"inventory/thing/0\.npz is not a valid part .* Delete"):
        look(place)
    delete(place, shard)
    assert look(place)["missing"] == [1, 3]  # the change stream has the row 2


# --- ids of every kind ---


@pytest.mark.parametrize("said", [[], [-5, 7]])
def test_a_shard_is_read_as_it_was_written(said):
    ids = np.array([LOWEST_ID, -1, 0, 3, 3, 2**62, 2**63 - 1], np.int64)
    prints = np.array([2**64 - 1, 0], np.uint64)
    starts, ends, due = np.array([0, 3]), np.array([3, 2**63 - 1]), np.array([740_000, 740_030])
    proved = Proved(starts, ends, prints, prints[::-1], due)
    lines = np.arange(len(ids), dtype=np.uint64)
    words = Said(np.array(said, np.int64), np.arange(len(said)), prints[: len(said)])
    shard = Shard(proved, ids, lines, words, np.array([3], np.int64))
    read = unpack(shard.pack())
    for name in ("ids", "prints", "gone"):
        assert getattr(read, name).tolist() == getattr(shard, name).tolist()
    assert [each.tolist() for each in read.said] == [each.tolist() for each in words]
    assert [each.tolist() for each in read.proved] == [each.tolist() for each in proved]
    assert read.rows[1].tolist() == said


def test_a_million_rows_take_a_few_bytes_each():
    """Prints don't compress; ids do, if they are dense."""
    prints = np.random.default_rng(1).integers(0, 2**63 - 1, 1_000_000).astype(np.uint64)
    dense = np.arange(10**9, 10**9 + 1_000_000)
    sparse = np.sort(prints).astype(np.int64)
    assert len(Shard(ids=dense, prints=prints).pack()) < 8_100_000
    assert len(Shard(ids=sparse, prints=prints).pack()) < 16_000_000


def test_ids_as_high_as_a_bigint_goes(database, bucket):
    place = Place(database, bucket, ["thing"], {}, with_changes=True, batch_rows=3)
    place.execute(
        "CREATE TABLE thing (thing_id bigint PRIMARY KEY)",
        f"INSERT INTO thing SELECT {2**62} + n * {2**50} FROM generate_series(1, 9) AS n",
    )
    place.run()
    first = look(place)
    assert (first["missing"], first["rows_landed"]) == ([], 9)
    with closing(place.database.connect()) as connection:
        connection.run("DELETE FROM thing WHERE thing_id = :id", id=2**62 + 2**50)
    assert look(place)["deleted"] == [2**62 + 2**50]
