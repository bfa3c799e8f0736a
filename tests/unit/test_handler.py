from __future__ import annotations

import pytest

from services.ingestion.replays import Range, requested_range
from shared.errors import ConfigError, EventError
from shared.events import requested_tables
from shared.tables import TABLES, tables_without_changes


def test_no_event_means_all_tables_of_ours():
    assert requested_tables({}) == TABLES
    assert len(set(TABLES)) == len(TABLES) >= 11
    assert "_prisma_migrations" not in TABLES


def test_some_tables_are_read_in_the_order_of_all():
    assert requested_tables({"tables": ["address", "payment"]}) == ["payment", "address"]


@pytest.mark.parametrize(
    "event",
    [
        None,
        [],
        "address",
        {"table": "address"},
        {"tables": "address"},
        {"tables": []},
        {"tables": ["address"], "limit": 3},
        {"tables": {"address": 1}},
    ],
    ids=repr,
)
def test_anything_else_says_what_an_event_looks_like(event):
    with pytest.raises(EventError, match=r"The event must be \{\} for all tables or"):
        requested_tables(event)


@pytest.mark.parametrize("name", ["_prisma_migrations", "Address", "", 7, ["address"]], ids=repr)
def test_an_unknown_table_is_named_and_the_known_ones_too(name):
    with pytest.raises(EventError, match="Unknown tables") as failure:
        requested_tables({"tables": ["address", name]})
    assert repr(name) in str(failure.value)
    assert "payment_type" in str(failure.value)


@pytest.mark.parametrize(
    ("names", "tables"), [((), ()), (("all",), TABLES), (("design", "staff"), ("design", "staff"))]
)
def test_tables_can_go_without_a_change_stream(names, tables):
    assert tables_without_changes(names) == tables


@pytest.mark.parametrize("names", [("payments",), ("all", "design")])
def test_the_name_of_an_unknown_table_is_not_ignored(names):
    with pytest.raises(ConfigError, match=names[0]):
        tables_without_changes(names)


def test_an_event_can_ask_for_a_range_to_be_replayed():
    event = {"replay": {"table": "payment", "from_row_id": 0, "to_row_id": 500}}
    assert requested_range(event) == Range("payment", 0, 500)


@pytest.mark.parametrize(
    "event",
    [
        {"replay": None},
        {"replay": "payment"},
        {"replay": {"table": "payment"}},
        {"replay": {"table": "payment", "from_row_id": 0}},
        {"replay": {"table": "payment", "from_row_id": 0, "to_row_id": 5, "limit": 1}},
        {"replay": {"table": "payment", "from_row_id": 0, "to_row_id": 5}, "tables": ["payment"]},
    ],
    ids=repr,
)
def test_half_a_range_says_what_a_replay_looks_like(event):
    with pytest.raises(EventError, match=r'the event must be \{"replay": \{"table": "payment"'):
        requested_range(event)


@pytest.mark.parametrize(
    ("table", "bounds", "match"),
    [
        ("payments", (0, 5), "Unknown table: 'payments'.* payment_type"),
        (["payment"], (0, 5), "Unknown table"),
        ("payment", ("0", 5), "must be 64-bit integers"),
        ("payment", (0, 5.0), "must be 64-bit integers"),
        ("payment", (False, True), "must be 64-bit integers"),
        ("payment", (0, 2**63), "must be 64-bit integers"),
        ("payment", (0, None), "must be 64-bit integers"),
        ("payment", (5, 5), "no id above 5 up to 5"),
        ("payment", (6, 5), "no id above 6 up to 5.* to replay row 5 alone"),
    ],
)
def test_a_range_that_can_not_be_is_refused(table, bounds, match):
    asked = {"table": table, "from_row_id": bounds[0], "to_row_id": bounds[1]}
    with pytest.raises(EventError, match=match):
        requested_range({"replay": asked})
