"""What `x-land` says in a contract, what is hashed, and what is checked before it is."""

from __future__ import annotations

import hmac
import json
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from shared.contracts import contract as contracts
from shared.contracts.check import violations
from shared.contracts.contract import landed, parse, personal_data
from shared.contracts.schema import POSTGRESQL_TYPE
from shared.errors import ConfigError
from shared.hashes import hashed, landed_rows
from shared.json_values import Json
from shared.jsonlines import to_json_lines
from shared.personal import NONE, PersonalData
from shared.postgres.catalogue import Column, Description
from shared.postgres.credentials import Credentials
from shared.postgres.reader import Batch
from shared.tables import Table
from tests.helpers.oracle.contracts import KINDS, broken_rows, catalogue, document, landed_lines

KEY = b"0123456789abcdef0123456789abcdef"
ID: dict[str, Any] = {POSTGRESQL_TYPE: "integer", "type": "integer", "minimum": 1}
NAME: dict[str, Any] = {POSTGRESQL_TYPE: "text", "type": "string", "maxLength": 9}
BORN: dict[str, Any] = {POSTGRESQL_TYPE: "date", "type": ["string", "null"]}
PHONE: dict[str, Any] = {POSTGRESQL_TYPE: "text", "type": "string", "pattern": "^[0-9-]+$"}
THING: dict[str, dict[str, Any]] = {
    "thing_id": ID,
    "phone": PHONE | {"x-land": "drop"},
    "name": NAME | {"x-land": "hash"},
    "born": BORN | {"x-land": "hash"},
    "city": NAME,
}
PERSONAL = PersonalData(frozenset({"phone"}), frozenset({"name", "born"}), KEY)


def hash_of(octets):
    return hmac.new(KEY, octets, "sha256").hexdigest()


def hash_of_landed(text):
    """Return the hash of a value, by the text it would land as: how the guide defines it."""
    value = json.loads(text)
    if value is None:
        return None
    is_text = isinstance(value, str)
    return hash_of(value.encode("utf-8", "surrogatepass") if is_text else text.strip().encode())


@pytest.mark.parametrize(
    ("value", "octets"),
    [
        ("Zoë", "Zoë".encode()),
        ("", b""),
        (' "\n\\\u2028', ' "\n\\\u2028'.encode()),
        ("null", b"null"),
        (Decimal("3.10"), b"3.10"),
        (Decimal("NaN"), b"NaN"),
        (7, b"7"),
        (True, b"true"),
        (0.1, b"0.1"),
        (pd.Timestamp("2022-11-03 14:20:52"), b"2022-11-03T14:20:52.000000"),
        (Json(' "a\\u0041" '), b"aA"),
        (Json('"\\ud800"'), b"\xed\xa0\x80"),
        (Json('{"a":  1.10}'), b'{"a":  1.10}'),
        (Json('["\u2028"]'), b'["\\u2028"]'),
    ],
    ids=repr,
)
def test_what_is_hashed_is_the_value_as_it_would_land(value, octets):
    [found] = hashed(pd.Series([value], dtype=object), KEY)
    assert found == hash_of(octets)
    assert found is not None
    assert len(found) == 64


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=20, deadline=None, database=None)
@given(data=st.data())
def test_values_of_any_kind_are_hashed_as_they_would_land(kind, data):
    values, dtype, with_nulls = KINDS[kind]
    drawn = data.draw(st.lists(st.sampled_from([*values, None]), max_size=8))
    column = pd.Series(drawn, dtype=with_nulls if None in drawn else dtype, name="a\u2028b")
    lines = to_json_lines(column.rename("v").to_frame()).decode().split("\n")[:-1]
    found = hashed(column, KEY)
    assert found.tolist() == [hash_of_landed(line[len('{"v":') : -1]) for line in lines]
    assert found.name == column.name


@settings(deadline=None, database=None)
@given(st.text(st.characters(exclude_categories=["Cs"])), st.text(min_size=1))
def test_any_text_and_any_other_key(text, key):
    [found] = hashed(pd.Series([text], dtype=object), KEY)
    assert found == hash_of(text.encode())
    other = key.encode("utf-8", "surrogatepass")
    if other.rstrip(b"\0") != KEY:  # HMAC fills a key up with zeros
        assert hashed(pd.Series([text], dtype=object), other).tolist() != [found]


def frame(**columns):
    rows = {
        "thing_id": [7, 8],
        "name": ["Ada", "Zoë"],
        "born": ["1901-01-01", None],
        "city": ["Leeds", "York"],
    }
    changed = {name: pd.Series(each, dtype=object) for name, each in (rows | columns).items()}
    return pd.DataFrame(changed).astype({"thing_id": "int64"})


def batch(rows):
    return Batch(Description(Table("thing"), tuple(catalogue(THING)), personal=PERSONAL), rows)


def test_a_batch_has_the_rows_as_they_land_and_as_they_are():
    found = batch(frame())
    assert list(found.rows) == ["thing_id", "name", "born", "city"]
    assert found.rows["name"].tolist() == [hash_of(b"Ada"), hash_of("Zoë".encode())]
    assert found.rows["born"].tolist() == [hash_of(b"1901-01-01"), None]
    assert found.rows["city"].tolist() == ["Leeds", "York"]
    assert found.source["name"].tolist() == ["Ada", "Zoë"]
    assert found.rows is found.rows  # hashed once


def test_rows_of_other_indices_keep_their_hashes():
    rows = frame().iloc[[1]]
    assert landed_rows(rows, PERSONAL)["name"].tolist() == [hash_of("Zoë".encode())]


def test_without_hashes_the_frame_is_the_same_object():
    rows = frame()
    assert landed_rows(rows, NONE) is rows


def test_landed_lines_are_as_the_landed_contract_says():
    lands = document(landed(THING))
    Draft202012Validator.check_schema(lands)
    assert broken_rows(lands, landed_lines(batch(frame()).rows)) == {}
    as_in_source = frame(phone=["1", "2"])
    assert broken_rows(lands, landed_lines(as_in_source)) == {
        "": [0, 1], "name": [0, 1], "born": [0]
    }  # fmt: skip


def test_values_are_judged_before_they_are_hashed_and_not_told():
    found = violations(THING, batch(frame(name=["Ada", "Ada Lovelace"])))
    assert [(each.column, each.kind, each.first_ids) for each in found] == [("name", "value", [8])]
    assert "Lovelace" not in repr(found)


def test_of_a_dropped_column_the_declaration_is_judged():
    assert violations(THING, batch(frame())) == []
    columns = {each.name: each for each in catalogue(THING)}
    columns["phone"] = Column("phone", "bigint", "int8", "N", nullable=True)
    described = Description(Table("thing"), tuple(columns.values()), personal=PERSONAL)
    found = violations(THING, Batch(described, frame()))
    assert [(each.column, each.kind, each.rows) for each in found] == [
        ("phone", "type", 0), ("phone", "nullability", 0)
    ]  # fmt: skip


@pytest.mark.parametrize("form", ["mask", "", "Drop", None, True, ["drop"], {"hash": "sha"}])
def test_another_form_is_refused(form):
    text = json.dumps(document(THING | {"city": NAME | {"x-land": form}}))
    with pytest.raises(
        ConfigError, match=r"""Contract thing\.json: city: 'x-land' must be "drop" or "hash"\."""
    ):
        parse("thing.json", text)


@pytest.mark.parametrize("form", ["drop", "hash"])
def test_the_id_lands_as_it_is(form):
    text = json.dumps(document(THING | {"thing_id": ID | {"x-land": form}}))
    with pytest.raises(ConfigError, match=r"thing\.json: thing_id: 'x-land' is not for the id"):
        parse("thing.json", text)
    assert parse("another.json", text)


def test_a_form_within_a_rule_would_say_nothing_and_is_refused():
    rules = NAME | {"not": {"type": "string", "x-land": "drop"}}
    with pytest.raises(ConfigError, match="city: 'x-land' is not supported"):
        parse("thing.json", json.dumps(document(THING | {"city": rules})))


@pytest.fixture
def contract(tmp_path, monkeypatch):
    """The contract of things is the only one."""
    monkeypatch.setattr(contracts, "FOLDER", tmp_path)
    (tmp_path / "thing.json").write_text(json.dumps(document(THING)))
    contracts.load.cache_clear()
    yield
    contracts.load.cache_clear()


def test_what_a_contract_says_of_its_columns(contract):
    assert personal_data(Table("thing"), KEY.decode()) == PERSONAL
    assert personal_data(Table("other"), None) == NONE
    assert KEY.decode() not in repr(PERSONAL)


@pytest.mark.parametrize("key", [None, ""])
def test_hashes_need_a_key(contract, key):
    with pytest.raises(
        ConfigError, match=r"thing\.json lets born, name land as hashes.*no `hash_key`"
    ):
        personal_data(Table("thing"), key)


SECRET = {"host": "h", "port": 1, "dbname": "d", "username": "u", "password": "p"}


@pytest.mark.parametrize("key", ["", "31 characters are not enough...", 7, ["a" * 32], True])
def test_a_key_that_is_too_short_or_no_text_is_refused_and_not_told(key):
    with pytest.raises(
        ConfigError, match=r"`hash_key` must be .* at least 32 characters"
    ) as failed:
        Credentials.from_secret("s", json.dumps(SECRET | {"hash_key": key}))
    assert not (isinstance(key, str) and key and key in str(failed.value))


def test_a_secret_may_have_a_key():
    assert Credentials.from_secret("s", json.dumps(SECRET)).hash_key is None
    assert Credentials.from_secret("s", json.dumps(SECRET | {"hash_key": None})).hash_key is None
    found = Credentials.from_secret("s", json.dumps(SECRET | {"hash_key": KEY.decode()}))
    assert found.hash_key == KEY.decode()
    assert KEY.decode() not in repr(found)


def test_a_column_of_integers_is_hashed_by_their_digits():
    column = pd.Series(np.array([1, -(2**63)]))
    assert hashed(column, KEY).tolist() == [hash_of(b"1"), hash_of(b"-9223372036854775808")]
