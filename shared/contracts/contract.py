"""The contract of each table: what people expect its rows to look like.

`<table>.json` is a JSON Schema of one landed line that also names each column's type in PostgreSQL.
`make contract` writes it, people edit it.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.contracts import schema
from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from shared.contracts.schema import Schema
    from shared.postgres.survey import Declared
    from shared.tables import Table

    type Contract = Mapping[str, Schema]

FOLDER = Path(__file__).parent

# What every contract says besides its `properties`, and that it requires all of them.
FRAME = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
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
        name: its name in error messages.
        text: a JSON Schema.

    Raises:
        ConfigError: it is not a contract, or uses a keyword that is not supported.
    """
    try:
        document = json.loads(text)
        contract: Contract = document["properties"]
        faults = [*_misuse(document), *_misuse_of_columns(contract)]
    except (ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise ConfigError(f"Contract {name} can't be read: {error!r}. Fix it.") from error
    if faults:
        raise ConfigError(f"Contract {name}: {'; '.join(faults)}. Fix it.")
    return contract


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


def _misuse_of_columns(contract: Contract) -> Iterator[str]:
    for column, expected in contract.items():
        yield from (f"{column}: {misuse}" for misuse in schema.misuse(expected))
        yield from (
            f"{column}: {keyword!r} is missing"
            for keyword in ("type", schema.POSTGRESQL_TYPE)
            if keyword not in expected
        )
