from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.bucket import keys
from shared.errors import StateError
from shared.tables import Table

TABLES = st.text(min_size=1).filter(lambda name: "\n" not in name)
IDS = st.integers(min_value=0, max_value=2**63 - 1)
MOMENTS = st.datetimes(min_value=datetime(1000, 1, 1)).map(
    lambda moment: moment.strftime("%Y-%m-%dT%H-%M-%S")
)


def test_the_keys_of_the_specification():
    assert (
        keys.format_data_key(Table("address"), 1491, "2024-11-11T14-56-55")
        == "address/1491-2024-11-11T14-56-55.jsonl"
    )
    assert keys.format_latest_key(Table("address")) == "address/latest.json"
    assert keys.format_claim_key(Table("address"), 1491) == "claims/address/1491.json"


@given(TABLES, IDS, MOMENTS, st.integers(0, 10**10 - 1))
def test_each_kind_of_key_says_what_it_was_made_of_and_is_no_other_kind(
    name, row_id, timestamp, number
):
    table = Table(name)
    kinds = {
        "data": (table, row_id, timestamp),
        "claim": (table, row_id),
        "change": (table, number),
    }
    for kind, parts in kinds.items():
        key = getattr(keys, f"format_{kind}_key")(*parts)
        assert getattr(keys, f"parse_{kind}_key")(key) == parts
        assert key.startswith(getattr(keys, f"{kind}_folder")(table))
        for other in kinds:
            assert getattr(keys, f"is_{other}_key")(key) == (other == kind)


@pytest.mark.parametrize(
    ("kind", "key"),
    [
        ("data", "address/latest.json"),
        ("data", "claims/address/1491.json"),
        ("data", "address/1491-2024-11-11T14-56-55.json"),
        ("data", "address/1491-2024-11-11T14-56-55.jsonl.gz"),
        ("data", "address/-1-2024-11-11T14-56-55.jsonl"),
        ("data", "address/1491-2024-13-11T14-56-55.jsonl"),
        ("data", "address/1491-2024-11-11 14-56-55.jsonl"),
        ("data", "address/x-2024-11-11T14-56-55.jsonl"),
        ("data", "1491-2024-11-11T14-56-55.jsonl"),
        ("data", ""),
        ("claim", "claims/address/README.md"),
        ("claim", "claims/address/-1.json"),
        ("claim", "address/1491.json"),
        ("change", "changes/address/latest.json"),
        ("change", "changes/address/1.jsonl"),
    ],
)
def test_a_key_no_rule_makes_is_an_error_and_no_default(kind, key):
    assert not getattr(keys, f"is_{kind}_key")(key)
    with pytest.raises(StateError, match="is not a key like"):
        getattr(keys, f"parse_{kind}_key")(key)


def test_the_timestamp_is_utc_and_of_fixed_width():
    before = datetime.now(UTC).replace(microsecond=0, tzinfo=None)
    timestamp = keys.timestamp_now()
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d", timestamp)
    assert datetime.strptime(timestamp, "%Y-%m-%dT%H-%M-%S") >= before


class Clock(datetime):
    """A clock that stands still."""

    @classmethod
    def now(cls, tz=None):
        return cls(2024, 11, 11, 15, 4, 0, 900_000, tzinfo=tz)


@pytest.mark.parametrize(
    ("timestamp", "seconds"),
    [("2024-11-11T15-03-24", 37), ("2024-11-11T15-04-00", 1), ("2024-11-09T15-04-00", 172_801)],
)
def test_seconds_since_a_timestamp(monkeypatch, timestamp, seconds):
    monkeypatch.setattr(keys, "datetime", Clock)
    assert keys.seconds_since(timestamp) == seconds
