"""The contracts and their check, without a server."""

from __future__ import annotations

import json
import re
from datetime import date
from decimal import Decimal
from random import Random
from typing import Any

import pandas as pd
import pytest
from jsonschema import Draft202012Validator

from shared.contracts import contract as contracts
from shared.contracts import schema
from shared.contracts.check import Violation
from shared.contracts.check import violations as check
from shared.contracts.contract import parse
from shared.contracts.schema import POSTGRESQL_TYPE
from shared.contracts.values import column_faults
from shared.errors import ConfigError
from shared.json_values import Json
from shared.postgres.catalogue import Column, Description
from shared.postgres.reader import Batch
from shared.tables import TABLES, Table
from tests.helpers.oracle.contracts import (
    KINDS,
    broken_rows,
    catalogue,
    column,
    contract_of,
    document,
    judged,
    landed_lines,
    named,
    random_schema,
)
from tools.contract import DATE

ID = {POSTGRESQL_TYPE: "integer", "type": "integer", "minimum": 1}
AMOUNT = {POSTGRESQL_TYPE: "numeric(10,2)", "type": "number", "exclusiveMinimum": 0}
NOTE = {POSTGRESQL_TYPE: "text", "type": ["string", "null"], "maxLength": 3}
THING = {"thing_id": ID, "amount": AMOUNT, "note": NOTE}

# The kind of a column, by its declared type without modifiers; of all other types it is text.
KIND_OF = {
    **dict.fromkeys(("smallint", "integer", "bigint"), "integer"),
    **dict.fromkeys(("real", "double precision"), "float"),
    **dict.fromkeys(("json", "jsonb"), "json"),
    "numeric": "numeric",
    "boolean": "boolean",
    "timestamp without time zone": "timestamp out of range",
    "timestamp with time zone": "timestamptz",
}
# The same of a domain, by what the contract says of its values.
KIND_OF_DOMAIN = {"integer": "integer", "number": "numeric", "boolean": "boolean"}


def kind_of(rules):
    """What a column may hold whose contract this is."""
    declared = re.sub(r"\(.+?\)", "", rules[POSTGRESQL_TYPE])
    if declared.endswith("[]"):
        return "json"
    return KIND_OF.get(declared) or KIND_OF_DOMAIN.get(schema.types(rules)[0], "text")


# A table as people may add it tomorrow.
LATER: dict[str, dict[str, Any]] = {
    "later_id": {POSTGRESQL_TYPE: "bigint", "type": "integer", "minimum": 1},
    "discount": {POSTGRESQL_TYPE: "numeric(3,1)", "type": ["number", "null"], "maximum": 3},
    "at": {POSTGRESQL_TYPE: "timestamp(0) with time zone", "type": "string"} | schema.TIMESTAMP_UTC,
    "tags": {POSTGRESQL_TYPE: "character varying(3)[]", "type": "array"},
    "more": {POSTGRESQL_TYPE: "jsonb", "type": ["object", "null"]},
    "ratio": {POSTGRESQL_TYPE: "double precision", "type": "number"},
    "code": {POSTGRESQL_TYPE: "character(2)", "type": "string", "maxLength": 2},
    "state": {POSTGRESQL_TYPE: "mood", "type": ["string", "null"], "enum": ["it's", None]},
    "number": {POSTGRESQL_TYPE: "text", "type": "string", "pattern": "^INV-[0-9]{6}$"},
    "share": {POSTGRESQL_TYPE: "percent", "type": "integer", "minimum": 40, "maximum": 60},
    "sent": {POSTGRESQL_TYPE: "boolean", "type": ["boolean", "null"]},
}


def batch_of(table, columns, frame):
    return Batch(Description(Table(table), tuple(columns)), frame)


def found_broken(table, contract, frame):
    """Return how many rows the check finds broken in each column, and the first ids."""
    frame[f"{table}_id"] = range(1, len(frame) + 1)
    found = check(contract, batch_of(table, catalogue(contract), frame))
    assert {each.kind for each in found} <= {"value"}
    return {each.column: (each.rows, each.first_ids) for each in found}


def as_found(rows):
    return len(rows), [row + 1 for row in rows[:5]]


@pytest.mark.thorough
@pytest.mark.parametrize("schemas", [100, pytest.param(10_000, marks=pytest.mark.long)])
def test_the_check_agrees_with_jsonschema_on_any_schema(schemas):
    rng = Random(schemas)
    for _ in range(schemas):
        kind = rng.choice(list(KINDS))
        rules = random_schema(rng, kind)
        good, broken = judged(kind, rules)
        some = rng.choices(good, k=7) if good else []
        one_broken = [*some, rng.choice(broken)] if broken else some
        rng.shuffle(one_broken)
        for values in (some, one_broken, broken, [*broken, *good]):
            frame = pd.DataFrame({"v": column(kind, values)})
            # By identity: 1 is not true, and NaN not itself.
            rows = [n for n, value in enumerate(values) if any(value is bad for bad in broken)]
            expected = {"v": as_found(rows)} if rows else {}
            assert found_broken("thing", {"v": rules, "thing_id": ID}, frame) == expected, rules


@pytest.mark.parametrize(
    "more",
    [
        {"pattern": "00$"},
        {"pattern": "00$", "minLength": 26},
        schema.TIMESTAMP | {"enum": ["2022-11-03T00:00:00.000000", "2022-11-05T00:00:00.000000"]},
        schema.TIMESTAMP | {"not": {"pattern": "^2022-11-04"}},
    ],
)
def test_a_broken_timestamp_between_good_ones_is_found(more):
    moments = ["2022-11-03", "2022-11-04 14:20:52.000001", "2022-11-05"]
    frame = pd.DataFrame({"v": pd.to_datetime(moments, format="ISO8601").as_unit("us")})
    rules = {POSTGRESQL_TYPE: "timestamp", "type": "string"} | more
    assert found_broken("thing", {"v": rules, "thing_id": ID}, frame) == {"v": (1, [2])}


@pytest.mark.parametrize(
    ("numbers", "rules"),
    [
        (["0", "1", "3"], {"type": "number", "enum": [0, 3]}),
        (["0", "3.14", "4"], {"type": "integer"}),
        (["-Infinity", "5", "Infinity"], {"type": ["number", "string"], "maximum": 3}),
        (["1", "Infinity", "2"], {"type": "number"}),
        (["1", "5", "2"], {"type": "number", "maximum": 3}),
        (["2", "1", "3"], {"type": "number", "minimum": 2}),
        (
            ["9007199254740993.00", "9007199254740992.99", "9007199254740994"],
            {"type": "number", "minimum": 2**53 + 1},
        ),
    ],
)
def test_a_broken_number_between_good_ones_is_found(numbers, rules):
    frame = pd.DataFrame({"v": pd.Series(map(Decimal, numbers), dtype=object)})
    contract = {"v": {POSTGRESQL_TYPE: "numeric"} | rules, "thing_id": ID}
    assert found_broken("thing", contract, frame) == {"v": (1, [2])}


# The first four have a column of every kind.
SOME_TABLES = [
    "payment", "transaction", "currency", "later",
    *(pytest.param(table, marks=pytest.mark.long) for table in TABLES
      if table not in {"payment", "transaction", "currency"}),
]  # fmt: skip


@pytest.mark.thorough
@pytest.mark.parametrize("frames", [3, pytest.param(40, marks=pytest.mark.long)])
@pytest.mark.parametrize("table", SOME_TABLES)
def test_the_check_agrees_with_jsonschema_on_rows_of_our_tables(table, frames):
    contract = LATER if table == "later" else contract_of(table)
    kinds = {name: kind_of(rules) for name, rules in contract.items()}
    possible = {
        name: judged(kinds[name], rules, named(kinds[name], rules))
        for name, rules in contract.items()
    }
    rng = Random(table)
    for _ in range(frames):
        frame = pd.DataFrame(
            {
                name: column(kinds[name], rng.choices(rng.choice([good, good + broken]), k=8))
                for name, (good, broken) in possible.items()
            }
        )
        found = found_broken(table, contract, frame)
        expected = broken_rows(document(contract), landed_lines(frame))
        assert found == {name: as_found(rows) for name, rows in expected.items()}


@pytest.mark.thorough
@pytest.mark.parametrize("table", SOME_TABLES)
def test_our_contracts_are_json_schemas_that_take_some_values_and_refuse_others(table):
    contract = LATER if table == "later" else contract_of(table)
    Draft202012Validator.check_schema(document(contract))
    for name, rules in contract.items():
        kind = kind_of(rules)
        good, broken = judged(kind, rules, named(kind, rules))
        assert good, name
        # A column that may be NULL, and of whose values nothing is expected, can hold no fault.
        anything = schema.rules(rules).keys() == {"type"} and schema.nullable(rules)
        assert broken or anything, name


def test_every_contract_is_of_a_table_of_ours():
    assert sorted(path.stem for path in contracts.FOLDER.glob("*.json")) == sorted(TABLES)


def is_date(text):
    try:
        return date.fromisoformat(text).isoformat() == text
    except ValueError:
        return False


@pytest.mark.parametrize("year", [0, 1, 1900, 1999, 2000, 2023, 2024, 2099, 2100, 9996])
def test_dates_held_as_text_must_be_in_the_calendar(year):
    texts = [f"{year:04}-{month:02}-{day:02}" for month in range(14) for day in range(33)]
    values = pd.Series(texts, dtype=object)
    ours = {"pattern": contract_of("payment")["payment_date"]["pattern"]}
    for rules, first, last in ((DATE, 1, 9999), (ours, 2000, 2099)):
        fits = [not fault for fault in column_faults(values, rules) or [""] * len(texts)]
        if year:  # which Python has not
            assert fits == [is_date(text) and first <= year <= last for text in texts]


@pytest.mark.parametrize(
    ("opening", "closing"), [("[", "]"), ('{"a":', "}")], ids=["array", "object"]
)
def test_a_document_may_be_as_deep_as_postgresql_lets_it(opening, closing):
    """Deeper than Python's parser can go."""
    deep = Json(opening * 100_000 + "1" + closing * 100_000)
    frame = pd.DataFrame({"v": pd.Series([Json("1"), deep], dtype=object)})
    rules = {POSTGRESQL_TYPE: "json", "type": "number"}
    assert found_broken("thing", {"v": rules, "thing_id": ID}, frame) == {"v": (1, [2])}


def things(**columns):
    rows = {"thing_id": [7, 8, 9], "amount": [Decimal("3.10")] * 3, "note": ["a", None, "abc"]}
    frame = pd.DataFrame({k: pd.Series(v, dtype=object) for k, v in (rows | columns).items()})
    return frame.astype({"thing_id": "int64"})


def violations(frame, **changes):
    """Check a frame against THING, the catalogue changed by column: None is gone."""
    declared = {each.name: each for each in catalogue(THING)} | changes
    return check(THING, batch_of("thing", [each for each in declared.values() if each], frame))


def test_good_rows_and_no_rows_have_no_violation():
    assert violations(things()) == []
    assert violations(things().head(0)) == []


def test_values_that_break_the_contract():
    frame = things(amount=[Decimal("NaN"), Decimal("-1"), Decimal(1)], note=["toolong", None, "b"])
    assert violations(frame) == [
        Violation(
            "amount",
            "value",
            '{"type": "number", "exclusiveMinimum": 0}',
            "number against exclusiveMinimum; string",
            2,
            [7, 8],
        ),
        Violation(
            "note",
            "value",
            '{"type": ["string", "null"], "maxLength": 3}',
            "string against maxLength",
            1,
            [7],
        ),
    ]


def test_a_column_that_is_gone():
    [found] = violations(things().drop(columns="amount"), amount=None)
    assert found == Violation(
        "amount", "column missing", "numeric(10,2)", "no such column", 3, [7, 8, 9]
    )


def test_a_new_column():
    new = Column("x", "uuid", "uuid", "U", nullable=True)
    [found] = violations(things(x=["1", "2", "3"]), x=new)
    assert found == Violation("x", "column added", "no such column", "uuid", 3, [7, 8, 9])


def test_a_column_of_another_type_counts_the_rows_that_are_wrong_for_it():
    now = Column("amount", "text", "text", "S", nullable=False)
    [found] = violations(things(amount=["1", "2", "3"]), amount=now)
    assert found == Violation("amount", "type", "numeric(10,2)", "text (string)", 3, [7, 8, 9])
    wider = Column("amount", "numeric(12,2)", "numeric", "N", nullable=False)
    [found] = violations(things(), amount=wider)
    assert found == Violation("amount", "type", "numeric(10,2)", "numeric(12,2)", 0, [])


def test_a_column_that_may_be_null_now():
    now = Column("amount", "numeric(10,2)", "numeric", "N", nullable=True)
    [found] = violations(things(amount=[Decimal(1), None, Decimal(2)]), amount=now)
    assert found == Violation("amount", "nullability", "NOT NULL", "NULL allowed (null)", 1, [8])
    now = Column("note", "text", "text", "S", nullable=False)
    [found] = violations(things(note=["a", "b", "c"]), note=now)
    assert found == Violation("note", "nullability", "NULL allowed", "NOT NULL", 0, [])


def test_drift_is_seen_without_rows():
    [found] = violations(things().head(0).drop(columns="note"), note=None)
    assert (found.kind, found.rows, found.first_ids) == ("column missing", 0, [])


def test_only_the_first_ids_are_named():
    frame = things().loc[[0] * 12].assign(thing_id=range(1, 13), note="too long")
    [found] = violations(frame)
    assert (found.rows, found.first_ids) == (12, [1, 2, 3, 4, 5])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"format": "date"}, "amount: 'format' is not supported"),
        ({"multipleOf": 0.01}, "'multipleOf' is not supported"),
        ({"not": {"const": 1}}, "'const' is not supported"),
        ({"minimum": 0.01}, "'minimum' is not a whole number"),
        ({"maximum": True}, "'maximum' is not a whole number"),
        ({"type": "decimal"}, "there is no type 'decimal'"),
        ({"type": ["number", "NULL"]}, "there is no type 'NULL'"),
        ({"enum": [1.5]}, "'enum' may hold only"),
        ({"pattern": "("}, "can't be read"),
        ({"pattern": 1}, "can't be read"),
        ({"type": None}, "can't be read"),
    ],
    ids=str,
)
def test_what_is_not_checked_is_refused(change, says):
    with pytest.raises(ConfigError, match=rf"Contract x\.json.*{re.escape(says)}"):
        parse("x.json", json.dumps(document(THING | {"amount": AMOUNT | change})))


@pytest.mark.parametrize("keyword", ["type", POSTGRESQL_TYPE])
def test_a_column_must_say_its_types(keyword):
    rules = {name: argument for name, argument in AMOUNT.items() if name != keyword}
    with pytest.raises(ConfigError, match=f"amount: '{keyword}' is missing"):
        parse("x.json", json.dumps(document(THING | {"amount": rules})))


@pytest.mark.parametrize(
    "change",
    [
        {"required": ["thing_id"]},
        {"additionalProperties": True},
        {"type": "array"},
        {"$schema": "http://json-schema.org/draft-07/schema#"},
        {"oneOf": []},
        {"properties": []},
        {"properties": {"thing_id": True}},
    ],
    ids=str,
)
def test_what_stands_around_the_columns_must_be_right(change):
    with pytest.raises(ConfigError, match=r"Contract x\.json"):
        parse("x.json", json.dumps(document(THING) | change))


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"properties": {}}'])
def test_what_is_no_contract_is_refused(text):
    with pytest.raises(ConfigError, match=r"Contract x\.json can't be read.*Fix it"):
        parse("x.json", text)
