"""`make contract TABLE=x`: write a table's contract from the table as it is, for you to edit.

Types, nullability, lengths and enums come from the catalogue. A text gets a format if every row has
it. Ranges are not guessed: rows can't tell which value would be a surprise. What the contract that
is there says by `x-land` is kept.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from contextlib import closing, contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pg8000.native import identifier, literal

from local import REPOSITORY, totesys
from local.totesys.database import Server
from services.ingestion.new_rows import read_new_rows
from shared.contracts import contract as contracts
from shared.contracts import schema
from shared.contracts.values import column_faults
from shared.errors import PipelineError
from shared.personal import PersonalData
from shared.postgres.categories import plain
from shared.postgres.credentials import get_credentials
from shared.postgres.refusals import database_errors
from shared.postgres.session import connect
from shared.tables import Table
from tools.stages import REGION

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    import pandas as pd
    from pg8000.native import Connection

    from shared.postgres.catalogue import Column

ROWS = 50_000
STATEMENT_TIMEOUT_SECONDS = 60

_LEAP_YEAR = "([0-9]{2}(0[48]|[2468][048]|[13579][26])|([02468][048]|[13579][26])00)"

# In some dialects of regular expressions `$` matches before a final line feed, too: hence the
# lengths, and the `not`.
DATE = {
    "minLength": 10,
    "maxLength": 10,
    "pattern": "^([0-9]{4}-(0[13578]|1[02])-(0[1-9]|[12][0-9]|3[01])"
    "|[0-9]{4}-(0[469]|11)-(0[1-9]|[12][0-9]|30)"
    f"|[0-9]{{4}}-02-(0[1-9]|1[0-9]|2[0-8])|{_LEAP_YEAR}-02-29)$",
}
EMAIL = {"pattern": "^[^@]+@[^@]+[.][^@.]+$", "not": {"type": "string", "pattern": "\\s"}}

# No null, unless the column may be NULL: a reader of the line can't tell one from the other.
_ANY = ["object", "array", "string", "number", "boolean"]
_TYPES: dict[str, dict[str, Any]] = {
    "int2": {"type": "integer", "minimum": -(2**15), "maximum": 2**15 - 1},
    "int4": {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1},
    "int8": {"type": "integer"},  # most JSON readers round its bounds
    "numeric": {"type": "number"},
    "float4": {"type": "number"},
    "float8": {"type": "number"},
    "bool": {"type": "boolean"},
    "json": {"type": _ANY},
    "jsonb": {"type": _ANY},
    "date": {"type": "string"} | DATE,
    "timestamp": {"type": "string"} | schema.TIMESTAMP,
    "timestamptz": {"type": "string"} | schema.TIMESTAMP_UTC,
}

# The labels of a column's enum, also where the column's type is a domain over it, or over that.
_LABELS = """
WITH RECURSIVE types AS (
    SELECT atttypid AS oid FROM pg_attribute
    WHERE attrelid = to_regclass({table}) AND attname = {column}
    UNION
    SELECT typbasetype FROM types JOIN pg_type USING (oid)
)
SELECT enumlabel FROM pg_enum JOIN types ON enumtypid = types.oid ORDER BY enumsortorder
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the contract of a table."""
    parser = argparse.ArgumentParser(prog="python -m tools.contract", description=__doc__)
    parser.add_argument("table")
    parser.add_argument("--stage", help="whose database is read (default: a local Totesys)")
    parser.add_argument("--secret", help="the name of its secret (<stage>/totesys)")
    parser.add_argument("--region", default=REGION, help=f"of the stage ({REGION})")
    parser.add_argument("--force", action="store_true", help="overwrite an edited contract")
    options = parser.parse_args(arguments)
    try:
        with _connect(options) as connection:
            contract = make(options.table, connection, kept_forms(options.table))
        path = write(options.table, contract, force=options.force)
    except (PipelineError, FileExistsError) as error:
        sys.exit(str(error))
    print(f"Written: {path}. Read it, add what else you expect, and review `git diff`.")
    return 0


def kept_forms(table: str) -> dict[str, str]:
    """Return what the contract of a table says by `x-land`, by column; nothing if it has none.

    Raises:
        ConfigError: the contract is not valid.
    """
    path = contracts.FOLDER / Table(table).contract
    return (
        contracts.land_forms(contracts.parse(path.name, path.read_text())) if path.exists() else {}
    )


def make(
    table: str, connection: Connection, forms: Mapping[str, str] = MappingProxyType({})
) -> str:
    """Return the text of a table's contract.

    Args:
        table: its name.
        connection: a session in autocommit, on a primary.
        forms: the `x-land` of the columns that have one; dropped ones are not read.

    Raises:
        PipelineError: the table can't be read, can't be ingested, or lacks a column of `forms`.
    """
    dropped = frozenset(name for name, form in forms.items() if form == "drop")
    personal = PersonalData(dropped, frozenset(forms) - dropped)
    batch = read_new_rows(Table(table), 0, connection, ROWS, wait_seconds=0, personal=personal)
    values = plain(batch.source)
    with database_errors(f"Reading the enums of {table!r}"):
        properties = {
            each.name: _property(each, values.get(each.name), _labels(table, each, connection))
            for each in batch.description.columns
        }
    for name, form in forms.items():
        properties[name] = {schema.LAND: form} | properties[name]
    properties[Table(table).id_column]["minimum"] = 1
    contract = {"title": table} | contracts.FRAME | {"required": list(properties)}
    return _text(contract, properties)


def write(table: str, text: str, *, force: bool) -> Path:
    """Write a contract where the service looks for it.

    Raises:
        FileExistsError: there is one with another text, and no `force`.
    """
    path: Path = contracts.FOLDER / Table(table).contract
    if path.exists() and path.read_text() != text and not force:
        raise FileExistsError(
            f"{path} exists and differs: it was edited, or the table was changed. "
            "To start again from the table, add --force (make: FORCE=1); git keeps the old one."
        )
    contracts.parse(path.name, text)
    path.write_text(text)
    return path


@contextmanager
def _connect(options: argparse.Namespace) -> Iterator[Connection]:
    """Open a session with a stage's database, or with a local Totesys."""
    if options.stage:
        os.environ["AWS_DEFAULT_REGION"] = options.region
        credentials = get_credentials(options.secret or f"{options.stage}/totesys")
        ca_file = REPOSITORY / f"shared/rds-ca/{options.region}.pem"
        with closing(connect(credentials, ca_file, STATEMENT_TIMEOUT_SECONDS)) as connection:
            yield connection
    else:
        with Server.start() as server, closing(server.connect()) as connection:
            totesys.create(connection)
            totesys.seed(connection)
            yield connection


def _labels(table: str, column: Column, connection: Connection) -> list[str]:
    if column.category != "E":
        return []
    names = {"table": literal(identifier(table)), "column": literal(column.name)}
    return [label for [label] in connection.run(_LABELS.format(**names))]


def _property(column: Column, values: pd.Series[Any] | None, labels: list[str]) -> dict[str, Any]:
    """Return the schema of a column; a text's format is found in its values, if they were read."""
    if column.category == "A":
        found: dict[str, Any] = {"type": "array"}
    elif column.category in "CER":  # composite, enum or range: a user's, of any name
        found = {"type": "string"}
    else:
        found = dict(_TYPES.get(column.base, {"type": "string"}))
    if column.category == "S":
        found |= _length(column.type_name) | ({} if values is None else _format(values))
    if labels:
        found["enum"] = labels
    if column.nullable:
        types = found["type"]
        found["type"] = [*([types] if isinstance(types, str) else types), "null"]
        found |= {"enum": [*labels, None]} if labels else {}
    return {schema.POSTGRESQL_TYPE: column.type_name} | found


def _length(type_name: str) -> dict[str, int]:
    limit = re.fullmatch(r"character(?: varying)?\((\d+)\)", type_name)
    return {"maxLength": int(limit[1])} if limit else {}


def _format(values: pd.Series[Any]) -> dict[str, Any]:
    """Return the format that all texts have, if there is one."""
    texts = values.dropna()
    for known in (DATE, EMAIL):
        if len(texts) and not column_faults(texts, known):
            return known
    return {}


def _text(contract: dict[str, Any], properties: dict[str, Any]) -> str:
    """Return JSON with a line for each column."""
    around = [f"  {_json(key)}: {_json(value)}," for key, value in contract.items()]
    columns = [f"    {_json(name)}: {_json(rules)}" for name, rules in properties.items()]
    return "\n".join(["{", *around, '  "properties": {', ",\n".join(columns), "  }", "}", ""])


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


if __name__ == "__main__":
    sys.exit(main())
