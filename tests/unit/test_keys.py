from __future__ import annotations

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.ingestion import keys
from shared.errors import StateError

TABLES = st.text(min_size=1).filter(lambda name: "\n" not in name)
IDS = st.integers(min_value=0, max_value=2**63 - 1)
MOMENTS = st.datetimes(min_value=datetime(1000, 1, 1)).map(
    lambda moment: moment.strftime("%Y-%m-%dT%H-%M-%S")
)


def test_the_keys_of_the_specification():
    assert (
        keys.format_data_key("address", 1491, "2024-11-11T14-56-55")
        == "address/1491-2024-11-11T14-56-55.jsonl"
    )
    assert keys.latest_key("address") == "address/latest.json"
    assert keys.claim_key("address", 1491) == "claims/address/1491.json"


@given(TABLES, IDS, MOMENTS)
def test_a_data_key_says_what_it_was_made_of(table, row_id, timestamp):
    key = keys.format_data_key(table, row_id, timestamp)
    assert keys.is_data_key(key)
    assert keys.parse_data_key(key) == (table, row_id, timestamp)


@pytest.mark.parametrize(
    "key",
    [
        "address/latest.json",
        "claims/address/1491.json",
        "address/1491-2024-11-11T14-56-55.json",
        "address/1491-2024-11-11T14-56-55.jsonl.gz",
        "address/-1-2024-11-11T14-56-55.jsonl",
        "address/1491-2024-13-11T14-56-55.jsonl",
        "address/1491-2024-11-11 14-56-55.jsonl",
        "address/x-2024-11-11T14-56-55.jsonl",
        "1491-2024-11-11T14-56-55.jsonl",
        "",
    ],
)
def test_a_key_no_rule_makes_is_an_error_and_no_default(key):
    assert not keys.is_data_key(key)
    with pytest.raises(StateError, match="is not the key of a data object"):
        keys.parse_data_key(key)


def test_a_claim_says_where_its_batch_begins():
    assert keys.parse_claim_key(keys.claim_key("address", 1491)) == 1491
    assert keys.claim_key("address", 1491).startswith(keys.claim_folder("address"))
    for key in ("claims/address/README.md", "claims/address/-1.json", "address/1491.json"):
        assert keys.parse_claim_key(key) is None


@given(TABLES, MOMENTS, st.integers(), st.integers())
def test_a_replay_key_is_known_as_one_and_as_nothing_else(table, timestamp, above, up_to):
    key = keys.format_replay_key(table, timestamp, above, up_to)
    assert keys.is_replay_key(key)
    assert key.startswith(keys.replay_folder(table))
    assert not keys.is_data_key(key)
    assert not keys.parse_change_key(key)


def test_replays_sort_by_when_they_were_made():
    first = keys.format_replay_key("address", "2024-11-11T14-56-55", 900, 1000)
    assert first == "replays/address/2024-11-11T14-56-55-900-1000.jsonl"
    assert first < keys.format_replay_key("address", "2024-11-11T14-56-56", 0, 10)
    for key in ("replays/address/2024-13-11T14-56-55-0-1.jsonl", "replays/address/0-1.jsonl"):
        assert not keys.is_replay_key(key)


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
