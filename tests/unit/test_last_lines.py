"""The last line of each row in both streams, against a dictionary that reads all of them."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.bucket import keys, last_lines
from shared.bucket.bucket import Bucket
from shared.bucket.last_lines import LastLines
from shared.errors import StateError
from shared.tables import Table
from tests.helpers.models.memory_s3 import MemoryS3

THING = Table("thing")
IDS = st.integers(1, 30)
# Columns before the id, and documents that contain its name, must not mislead.
ROWS = st.builds(
    lambda row_id, version, is_first: (
        {"thing_id": row_id, "v": version} if is_first else {"v": version, "thing_id": row_id}
    ),
    IDS,
    st.sampled_from([1, 2, '{"thing_id":7,', {"thing_id": 9}]),
    st.booleans(),
)
TOMBSTONES = st.builds(lambda row_id: {"thing_id": row_id, "_deleted": True}, IDS)
CHANGES = st.lists(st.lists(ROWS | TOMBSTONES, max_size=8), max_size=6)


def put_batches(s3, ends, rows):
    """Put the rows up to each end into an object of its own."""
    above = 0
    for end in ends:
        key = keys.format_data_key(THING, end, "2024-11-11T15-03-24")
        s3.put(keys.format_claim_key(THING, above), json.dumps({"key": key}).encode())
        s3.put_lines(key, [row for row in rows if above < row["thing_id"] <= end])
        above = end


def put_changes(s3, changes):
    for number, rows in enumerate(changes, 1):
        s3.put_lines(keys.format_change_key(THING, number), rows)


@settings(deadline=None, database=None)
@given(
    st.sets(st.integers(1, 29)),
    st.lists(ROWS, unique_by=lambda row: row["thing_id"]),
    CHANGES,
    st.lists(ROWS, unique_by=lambda row: row["thing_id"]),
    st.integers(0, 20),
    st.integers(1, 5),
    st.sampled_from([1, 3, 500_000]),
)
def test_they_are_those_of_whoever_reads_both_streams(
    ends, landed, changes, asked, above, stretch, held
):
    s3 = MemoryS3()
    put_batches(s3, [*sorted(ends), 30], landed)
    put_changes(s3, changes)
    last = {row["thing_id"]: row for row in landed}
    last |= {row["thing_id"]: row for rows in changes for row in rows}
    asked = sorted((row for row in asked if row["thing_id"] > above), key=lambda r: r["thing_id"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(last_lines, "_HELD_LINES", held)
        lines = LastLines(THING, above, len(changes), Bucket(s3, "bucket"))  # type: ignore[arg-type]
        for first in range(0, len(asked), stretch):
            some = asked[first : first + stretch]
            ids = np.array([row["thing_id"] for row in some], np.int64)
            same = lines.are_same(ids, [json.dumps(row).encode() for row in some])
            expected = [json.dumps(row) == json.dumps(last.get(row["thing_id"])) for row in some]
            assert same.tolist() == expected


def test_only_objects_that_matter_are_read():
    s3 = MemoryS3()
    put_batches(s3, [10, 20, 30], [{"thing_id": row_id} for row_id in range(1, 31)])
    lines = LastLines(THING, 12, 0, Bucket(s3, "bucket"))  # type: ignore[arg-type]
    assert lines.objects == 2
    assert lines.are_same(np.array([15]), [b'{"thing_id": 15}']).tolist() == [True]
    assert s3.requests["GetObject"] == 2  # a claim and its object


@pytest.mark.parametrize("body", [b"{}\n", b'{"thing_id":x,\n', b'{"thing_id":1}\n{"thi', b"\n"])
def test_what_is_not_valid_is_not_passed_over(body):
    s3 = MemoryS3()
    put_batches(s3, [30], [{"thing_id": 1}])
    s3.put(keys.format_change_key(THING, 1), body, rows="1")
    lines = LastLines(THING, 0, 1, Bucket(s3, "bucket"))  # type: ignore[arg-type]
    with pytest.raises(StateError, match=r"changes/thing/0000000001\.jsonl (has|is trunc)"):
        lines.are_same(np.array([1]), [b'{"thing_id": 1}'])


def test_a_row_that_no_claim_has_is_an_error():
    s3 = MemoryS3()
    put_batches(s3, [10], [])
    lines = LastLines(THING, 0, 0, Bucket(s3, "bucket"))  # type: ignore[arg-type]
    with pytest.raises(StateError, match="No claim of 'thing' has row 11"):
        lines.are_same(np.array([11]), [b'{"thing_id": 11}'])
