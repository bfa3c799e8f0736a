"""The SQL of DuckDB's views of a table, over a folder with copies of what has landed. No I/O.

Every value is read as text and then cast, with a check that it is still the same value: a value
that its type can't hold is an error that names table, column and key, never another value.
"""

from __future__ import annotations

import re
from collections import Counter
from typing import TYPE_CHECKING, Final

from shared.bucket import keys
from shared.contracts import schema
from shared.contracts.contract import landed
from shared.errors import ConfigError
from shared.tables import TOMBSTONE

if TYPE_CHECKING:
    from pathlib import Path

    from shared.contracts.contract import Contract
    from shared.contracts.schema import Schema
    from shared.tables import Table

LISTINGS: Final = ".listings"  # the folder of what `<table>_objects` shows
NOTHING: Final = "nothing.jsonl"  # an empty file in each folder: read_json fails if it finds none

# What each version has besides the table's columns.
_OWN_COLUMNS: Final = (TOMBSTONE, "_key", "_stream", "_number")
_TYPES: Final = {
    "smallint": "SMALLINT",
    "integer": "INTEGER",
    "bigint": "BIGINT",
    "real": "FLOAT",
    "double precision": "DOUBLE",
    "numeric": "DOUBLE",
    "boolean": "BOOLEAN",
    "date": "DATE",
    "time without time zone": "TIME",
    "timestamp without time zone": "TIMESTAMP",
    "timestamp with time zone": "TIMESTAMPTZ",
    "uuid": "UUID",
    "bytea": "BLOB",
    "json": "JSON",
    "jsonb": "JSON",
}
# Of types that are not listed, such as enums and domains, by what the contract says of the JSON.
_JSON_TYPES: Final = {
    "boolean": "BOOLEAN",
    "integer": "BIGINT",
    "number": "DOUBLE",
    "string": "VARCHAR",
}
_MOST_DIGITS: Final = 38  # of a DECIMAL
_EXACT_DIGITS: Final = 15  # that DuckDB's reader, which goes through a double, keeps of any number
_LISTED: Final = {
    "key": "VARCHAR",
    "stream": "VARCHAR",
    "number": "BIGINT",
    "claimed": "BOOLEAN",
    "rows": "BIGINT",
    "bytes": "BIGINT",
    "last_modified": "TIMESTAMPTZ",
}


def create_views(table: Table, contract: Contract, folder: Path) -> list[str]:
    """Return the statements that create `<table>`, `<table>_history` and `<table>_objects`.

    Args:
        table: the table.
        contract: the schema of each column, as the source has it, with its `x-land`.
        folder: has the objects that count under their keys, and the list of all in `LISTINGS`.

    Raises:
        ConfigError: a column has the name of another one, or of one of the views' own.
    """
    names = Counter(name.lower() for name in (*contract, *_OWN_COLUMNS))
    if taken := [name for name in contract if names[name.lower()] > 1]:
        raise ConfigError(
            f"{table.name!r} can't be queried because of the names {', '.join(taken)}: DuckDB "
            f"ignores case, and the views have columns {', '.join(_OWN_COLUMNS)} of their own."
        )
    columns = landed(contract)
    return [
        f"CREATE VIEW {identifier(f'{table.name}_history')} AS {_history(table, columns, folder)}",
        f"CREATE VIEW {identifier(table.name)} AS {_current(table, columns)}",
        f"CREATE VIEW {identifier(f'{table.name}_objects')} AS {_objects(table, folder)}",
    ]


def duckdb_type(column: Schema) -> str:
    """Return the type that a column has in DuckDB.

    >>> duckdb_type({"x-postgresql-type": "numeric(10,2)", "type": "number"})
    'DECIMAL(10,2)'
    """
    declared = schema.base_type(column)
    if decimal := re.fullmatch(r"numeric\((\d+),(\d+)\)", column[schema.POSTGRESQL_TYPE]):
        digits, scale = map(int, decimal.groups())
        return f"DECIMAL({digits},{scale})" if scale <= digits <= _MOST_DIGITS else "DOUBLE"
    if declared in _TYPES:
        return _TYPES[declared]
    kinds = schema.value_types(column)
    return _JSON_TYPES.get(kinds.pop(), "JSON") if len(kinds) == 1 else "JSON"


def identifier(name: str) -> str:
    """Return a name as SQL."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return a text as SQL."""
    return "'" + text.replace("'", "''") + "'"


def _history(table: Table, contract: Contract, folder: Path) -> str:
    """Return the query of all versions, each with its key, its stream and its number there."""
    read = {name: _read_as(duckdb_type(column)) for name, column in contract.items()}
    paths = [f"{folder}/{keys.data_folder(table)}*", f"{folder}/{keys.change_folder(table)}*"]
    values = [_value(table, name, duckdb_type(column)) for name, column in contract.items()]
    return (
        f"SELECT {', '.join(values)}, coalesce({TOMBSTONE}, false) AS {TOMBSTONE}, _key, "
        "if(_number IS NULL, 'rows', 'changes') AS _stream, _number "
        f"FROM (SELECT * REPLACE (substr(_key, {len(str(folder)) + 2}) AS _key), "
        r"TRY_CAST(regexp_extract(_key, '/changes/.*/(\d+)\.jsonl$', 1) AS BIGINT) AS _number "
        f"FROM {_read_json(paths, read | {TOMBSTONE: 'BOOLEAN'})}, filename = '_key'))"
    )


def _current(table: Table, contract: Contract) -> str:
    """Return the query of the last version of each id, without the rows that are deleted."""
    columns = ", ".join(map(identifier, contract))
    return (
        f"SELECT {columns} FROM {identifier(f'{table.name}_history')} QUALIFY NOT {TOMBSTONE} AND "
        f"row_number() OVER (PARTITION BY {identifier(table.id_column)} "
        "ORDER BY _number DESC NULLS LAST) = 1"
    )


def _objects(table: Table, folder: Path) -> str:
    return f"SELECT * FROM {_read_json([f'{folder}/{LISTINGS}/{table.name}.jsonl'], _LISTED)})"


def _read_json(paths: list[str], columns: dict[str, str]) -> str:
    """Return a call of read_json, without the bracket at its end."""
    listed = ", ".join(f"{literal(name)}: {literal(type_)}" for name, type_ in columns.items())
    return (
        f"read_json([{', '.join(map(literal, paths))}], format = 'newline_delimited', "
        f"columns = {{{listed}}}"
    )


def _read_as(type_: str) -> str:
    return "JSON" if type_ == "JSON" else "VARCHAR"


def _value(table: Table, name: str, type_: str) -> str:
    """Return a column with its type; a value that the type can't hold is an error."""
    column = identifier(name)
    if type_ == _read_as(type_):
        return column
    failed = literal(
        f"{table.name}.{name} has a value that {type_} does not hold exactly. Query other columns, "
        f"and see docs/consuming.md. It is in "
    )
    return (
        f"coalesce({_exact(column, type_)}, "
        f"CASE WHEN {column} IS NOT NULL THEN CAST(error({failed} || _key) AS {type_}) END) "
        f"AS {column}"
    )


def _exact(column: str, type_: str) -> str:
    """Return a text cast to a type; NULL if that would be another value.

    DuckDB's casts are lenient: 1.005 becomes 1.01, and '0044-03-15 BC' the year 44.
    """
    cast, double = f"TRY_CAST({column} AS {type_})", f"TRY_CAST({column} AS DOUBLE)"
    if type_ == "BLOB":
        return f"TRY(from_base64({column}))"
    if type_.endswith("INT") or type_ == "INTEGER":
        return f"if(contains({column}, '.'), NULL, {cast})"
    if type_.startswith("DECIMAL"):
        digits, scale = map(int, re.findall(r"\d+", type_))
        if digits == scale < _MOST_DIGITS:
            # 0.00001 is read as 1e-05, which DuckDB refuses if no digit is before the point.
            cast = f"TRY_CAST(TRY_CAST({column} AS DECIMAL({digits + 1},{scale})) AS {type_})"
        small = f"abs({double}) < 1e{_EXACT_DIGITS - scale}"
        return f"if({cast} = {double} AND {small}, {cast}, NULL)"
    if type_ == "DATE":
        return f"if(CAST({cast} AS VARCHAR) = {column}, {cast}, NULL)"
    return cast
