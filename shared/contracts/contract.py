"""The contract of each table: what people expect its rows to look like.

`<table>.json` is a JSON Schema of one line with the columns as the source has them. It also names
each column's type in PostgreSQL and, by `x-land`, how it lands if it must not land as it is; then
`landed` is the schema of landed lines. `make contract` writes it, people edit it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.contracts import schema
from shared.errors import ConfigError
from shared.personal import PersonalData
from shared.tables import Table

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.contracts.schema import Schema
    from shared.postgres.survey import Declared

    type Contract = Mapping[str, Schema]

FOLDER = Path(__file__).parent

# What every contract says besides its `properties`, and that it requires all of them.
FRAME = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
}

# What the schema of a hashed column becomes, but for null.
_HASH = {
    schema.POSTGRESQL_TYPE: "text",
    "type": "string",
    "minLength": 64,
    "maxLength": 64,
    "pattern": "^[0-9a-f]{64}$",
}


@cache
def load(table: Table) -> Contract | None:
    """Return the contract of a table, which is the schema of each column; None if it has none.

    Raises:
        ConfigError: the contract is not valid.
    """
    path = FOLDER / table.contract
    return parse(path.name, path.read_text()) if path.exists() else None


def parse(name: str, text: str) -> Contract:
    """Return the schema of each column that a contract describes.

    Args:
        name: its file's: `<table>.json`. Errors name it.
        text: a JSON Schema.

    Raises:
        ConfigError: it is not a contract, uses a keyword that is not supported, or does not let the
            id land as it is.
    """
    try:
        document = json.loads(text)
        contract: Contract = document["properties"]
        id_column = Table(name.removesuffix(".json")).id_column
        faults = [*_misuse(document), *_misuse_of_columns(contract, id_column)]
    except (ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise ConfigError(f"Contract {name} can't be read: {error!r}. Fix it.") from error
    if faults:
        raise ConfigError(f"Contract {name}: {'; '.join(faults)}. Fix it.")
    return contract


def land_forms(contract: Contract) -> dict[str, str]:
    """Return what a contract says by `x-land`, by column: `drop` or `hash`."""
    return {name: each[schema.LAND] for name, each in contract.items() if schema.LAND in each}


def personal_data(table: Table, hash_key: str | None) -> PersonalData:
    """Return which columns of a table must not land as they are, by its contract.

    Args:
        table: the table; without a contract it has no such columns.
        hash_key: the `hash_key` of the secret, if it has one.

    Raises:
        ConfigError: the contract is not valid, or hashes a column and there is no key.
    """
    forms = land_forms(load(table) or {})
    dropped = frozenset(name for name, form in forms.items() if form == "drop")
    hashed = forms.keys() - dropped
    if hashed and not hash_key:
        raise ConfigError(
            f"Contract {table.contract} lets {', '.join(sorted(hashed))} land as hashes, and the "
            "secret has no `hash_key`. Nothing of the table is read before it has one: see "
            "docs/personal-data.md."
        )
    return PersonalData(dropped, frozenset(hashed), (hash_key or "").encode())


def landed(contract: Contract) -> Contract:
    """Return the contract of landed lines: without what is dropped, and with hashes as they are.

    >>> name = {"x-postgresql-type": "text", "type": "string", "x-land": "hash"}
    >>> landed({"name": name, "phone": name | {"x-land": "drop"}})["name"]["pattern"]
    '^[0-9a-f]{64}$'
    """
    return {
        name: _landed_column(column)
        for name, column in contract.items()
        if column.get(schema.LAND) != "drop"
    }


def _landed_column(column: Schema) -> Schema:
    if schema.LAND not in column:
        return column
    return _HASH | {"type": ["string", "null"] if schema.nullable(column) else "string"}


def is_declared(contract: Contract, declared: Declared) -> bool:
    """Tell whether the columns of a table are those the contract describes."""
    expected = {
        (name, column[schema.POSTGRESQL_TYPE], schema.nullable(column))
        for name, column in contract.items()
    }
    return expected == set(declared)


def _misuse(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a contract, apart from its columns."""
    fixed = FRAME | {"required": list(document["properties"])}
    for keyword, argument in fixed.items():
        if document[keyword] != argument:
            yield f"{keyword!r} must be {json.dumps(argument)}"
    unknown = document.keys() - fixed.keys() - {"title", "description", "properties"}
    yield from (f"{keyword!r} is not supported" for keyword in sorted(unknown))


def _misuse_of_columns(contract: Contract, id_column: str) -> Iterator[str]:
    for column, expected in contract.items():
        rules = {word: argument for word, argument in expected.items() if word != schema.LAND}
        yield from (f"{column}: {misuse}" for misuse in schema.misuse(rules))
        if expected.get(schema.LAND, "drop") not in schema.LAND_FORMS:
            forms = " or ".join(map(json.dumps, schema.LAND_FORMS))
            yield f"{column}: {schema.LAND!r} must be {forms}"
        elif schema.LAND in expected and column == id_column:
            yield f"{column}: {schema.LAND!r} is not for the id, which orders the rows"
        yield from (
            f"{column}: {keyword!r} is missing"
            for keyword in ("type", schema.POSTGRESQL_TYPE)
            if keyword not in expected
        )
