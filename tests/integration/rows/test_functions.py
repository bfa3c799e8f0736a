"""The three functions of the specification, with its words, on real servers."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import pandas as pd
import pytest

from services.ingestion import get_latest_id, get_table_data, write_table_data
from shared.errors import SourceError
from shared.tables import TABLES
from tests.helpers.oracle import landed


@pytest.fixture
def addresses(totesys):
    return get_table_data("address", 0, totesys.connect())


def test_a_table_that_never_landed_is_at_0(bucket):
    assert get_latest_id("address", bucket.client, bucket.name) == 0


def test_all_rows_above_an_id_come_in_order(totesys):
    connection = totesys.connect()
    everything = get_table_data("sales_order", 0, connection)
    ids = everything["sales_order_id"].tolist()
    expected = connection.run("SELECT sales_order_id FROM sales_order ORDER BY 1")
    assert ids == [row_id for [row_id] in expected]
    some = get_table_data("sales_order", ids[9], connection)
    assert some["sales_order_id"].tolist() == ids[10:]
    assert get_table_data("sales_order", 0, connection, 7)["sales_order_id"].tolist() == ids[:7]
    assert get_table_data("sales_order", ids[9], connection, limit=7).shape == (7, 12)


@pytest.mark.parametrize("table", TABLES)
def test_nothing_new_is_an_empty_frame_with_the_columns(totesys, table):
    connection = totesys.connect()
    rows = get_table_data(table, 0, connection)
    none = get_table_data(table, int(rows[f"{table}_id"].iloc[-1]), connection)
    assert len(none) == 0
    assert list(none.columns) == list(rows.columns)


def test_any_table_with_an_id_column_will_do(database, bucket):
    connection = database.connect()
    connection.run('CREATE TABLE "Odd one" ("Odd one_id" bigserial, "a b" text)')
    connection.run("""INSERT INTO "Odd one" ("a b") VALUES ('x'), (NULL)""")
    rows = get_table_data("Odd one", 0, connection)
    write_table_data("Odd one", rows, bucket.client, bucket.name)
    assert landed.rows(bucket, "Odd one") == [
        {"Odd one_id": 1, "a b": "x"},
        {"Odd one_id": 2, "a b": None},
    ]
    assert get_latest_id("Odd one", bucket.client, bucket.name) == 2


def test_keys_latest_json_and_message_are_to_the_letter(addresses, bucket):
    result = write_table_data("address", addresses, bucket.client, bucket.name)
    assert result == {
        "success": True,
        "message": "30 lines of data successfully written to 'address' table",
    }
    [key] = landed.data_keys(bucket, "address")
    found = re.fullmatch(r"address/30-(\d{4}-\d\d-\d\dT\d\d-\d\d-\d\d)\.jsonl", key)
    assert found
    assert json.loads(landed.body(bucket, "address/latest.json")) == {
        "latest_row_id": 30,
        "timestamp": found[1],
        "rows_ingested": 30,
    }
    assert get_latest_id("address", bucket.client, bucket.name) == 30


def test_the_second_batch_holds_the_new_rows_only(totesys, addresses, bucket):
    write_table_data("address", addresses, bucket.client, bucket.name)
    totesys.connect().run(
        "INSERT INTO address (address_line_1, city, postal_code, country, phone, last_updated) "
        "VALUES ('1 New Road', 'Leeds', '00123', 'Congo, Democratic Republic', '1', now())"
    )
    new = get_table_data("address", 30, totesys.connect())
    result = write_table_data("address", new, bucket.client, bucket.name)
    assert result["message"] == "1 lines of data successfully written to 'address' table"
    assert landed.latest(bucket, "address")["rows_ingested"] == 1
    assert landed.ids(bucket, "address") == list(range(1, 32))
    assert landed.rows(bucket, "address")[-1]["postal_code"] == "00123"


def test_rows_that_have_landed_are_left_out(addresses, bucket):
    write_table_data("address", addresses.head(20), bucket.client, bucket.name)
    result = write_table_data("address", addresses, bucket.client, bucket.name)
    assert result["message"].startswith("10 lines")
    again = write_table_data("address", addresses, bucket.client, bucket.name)
    assert again["message"].startswith("0 lines")
    assert landed.ids(bucket, "address") == list(range(1, 31))


def test_an_empty_frame_writes_nothing(addresses, bucket):
    result = write_table_data("address", addresses.head(0), bucket.client, bucket.name)
    assert result["message"] == "0 lines of data successfully written to 'address' table"
    assert "Contents" not in bucket.client.list_objects_v2(Bucket=bucket.name)


def test_a_frame_made_by_hand_lands_in_id_order(bucket):
    frame = pd.DataFrame({"thing_id": [2, 1], "price": [Decimal("3.10"), None]})
    write_table_data("thing", frame, bucket.client, bucket.name)
    [key] = landed.data_keys(bucket, "thing")
    assert landed.body(bucket, key) == (
        '{"thing_id":1,"price":null}\n{"thing_id":2,"price":3.10}\n'
    )


def test_a_value_that_can_not_be_rendered_leaves_no_claim(bucket):
    """A claim can't be taken back: the table would stand still in front of it."""
    frame = pd.DataFrame({"thing_id": [1], "price": [{"a", "set"}]})
    with pytest.raises(TypeError, match="no exact JSON form"):
        write_table_data("thing", frame, bucket.client, bucket.name)
    assert "Contents" not in bucket.client.list_objects_v2(Bucket=bucket.name)


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ("nothing", "There is no table 'nothing'"),
        ("_prisma_migrations", "has no integer column '_prisma_migrations_id'"),
        ("named", "has no integer column 'named_id'"),
    ],
)
def test_a_table_that_can_not_be_ordered_is_refused(totesys, table, says):
    connection = totesys.connect()
    connection.run("CREATE TABLE named (named_id text)")
    with pytest.raises(SourceError, match=says):
        get_table_data(table, 0, connection)
