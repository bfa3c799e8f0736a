"""What DuckDB answers to SQL about what has landed, and how people and machines read it."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import duckdb

from local.console import table as lines_of
from shared.contracts.contract import load
from shared.errors import ConfigError
from tools.copies import Copies
from tools.views import create_views

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from shared.bucket.bucket import Bucket
    from shared.tables import Table

    type Row = tuple[str | None, ...]

MOST_ROWS: Final = 500  # that people are shown
_ROWS_AT_A_TIME: Final = 10_000

_NESTED: Final = {"list", "array", "struct", "map", "union"}
_NUMBERS: Final = {
    *("tinyint", "smallint", "integer", "bigint", "hugeint", "bignum"),
    *("utinyint", "usmallint", "uinteger", "ubigint", "uhugeint"),
    *("decimal", "float", "double"),
}
# Nothing is loaded over the network, and no variable of Python is a table.
_SETTINGS: Final[Mapping[str, bool]] = {
    "autoinstall_known_extensions": False,
    "autoload_known_extensions": False,
    "python_enable_replacements": False,
}


@dataclass(frozen=True, slots=True)
class Answer:
    """The result of a statement.

    Attributes:
        headings: the names of the columns.
        kinds: their types: `number`, `text` or `json`, which is text that is JSON already.
        rows: the values as DuckDB spells them, None for NULL; they can be read once.
    """

    headings: Sequence[str]
    kinds: Sequence[str]
    rows: Iterator[Row]


class LandedTables:
    """What has landed of some tables, for SQL; objects are copied when their table is first named.

    Each table is a view `<table>`; `<table>_history` has all versions of its rows, and
    `<table>_objects` its objects in the bucket.
    """

    def __init__(self, tables: Sequence[Table], bucket: Bucket, folder: Path) -> None:
        """Create the views over an empty folder, which is the caller's to delete."""
        self._copies = Copies(tables, bucket, folder)
        self._without_views: dict[Table, ConfigError] = {}
        # What does not fit in memory is kept beside the copies.
        self._connection = duckdb.connect(
            config={**_SETTINGS, "temp_directory": f"{folder}/.spill"}
        )
        self._connection.execute("SET TimeZone = 'UTC'")
        self._tables = tables
        for table in tables:
            try:
                self._create_views(table, folder)
            except ConfigError as error:
                self._without_views[table] = error

    def close(self) -> None:
        """Close DuckDB, which may have files in the folder."""
        self._connection.close()

    def ask(self, sql: str) -> Iterator[Answer]:
        """Run statements one by one; yield the answers of those that have one.

        Raises:
            duckdb.Error: a statement is wrong, or failed.
            ConfigError: a table that is named has no views.
            LandingError, LandingUnavailableError, StateError: see `Copies.copy`.
        """
        for table in named_tables(sql, self._tables):
            if table in self._without_views:
                raise self._without_views[table]
            self._copies.copy(table)
        queries = [statement.query for statement in self._connection.extract_statements(sql)]
        # DuckDB makes several statements of one PIVOT, and these have no text of their own.
        for query in queries if all(queries) else [sql]:
            with _interruptible():
                answer = self._connection.sql(query)
            if answer is not None:
                yield _answer(answer)

    def _create_views(self, table: Table, folder: Path) -> None:
        contract = load(table)
        if contract is None:
            raise ConfigError(
                f"{table.name!r} has no contract, which has the types of its columns. Write it: "
                f"make contract TABLE={table.name} STAGE=prod"
            )
        for statement in create_views(table, contract, folder):
            self._connection.execute(statement)


def named_tables(sql: str, tables: Sequence[Table]) -> list[Table]:
    """Return the tables one of whose views may be meant by a word in a text.

    >>> from shared.tables import Table
    >>> named_tables("SELECT staff_id FROM Payment_history", [Table("payment"), Table("staff")])
    [Table(name='payment')]
    """

    def is_named(table: Table) -> bool:
        view = rf"(?<!\w){re.escape(table.name)}(_history|_objects)?(?!\w)"
        return re.search(view, sql, re.IGNORECASE) is not None

    return [table for table in tables if is_named(table)]


def as_table(answer: Answer) -> tuple[list[str], bool]:
    """Return the lines of a table to read, and whether it has all rows: `MOST_ROWS` at most."""
    rows: list[list[str]] = []
    for row in answer.rows:
        if len(rows) == MOST_ROWS:
            return _lines_of(answer, rows), False
        rows.append(["NULL" if value is None else value for value in row])
    return _lines_of(answer, rows), True


def as_json_lines(answer: Answer) -> Iterator[str]:
    """Yield each row as a JSON object, numbers with all their digits."""
    for row in answer.rows:
        members = zip(answer.headings, answer.kinds, row, strict=True)
        listed = (f"{_text(name)}:{_json(kind, value)}" for name, kind, value in members)
        yield "{" + ",".join(listed) + "}"


def _answer(relation: duckdb.DuckDBPyRelation) -> Answer:
    kinds, texts = [], []
    for number, type_ in enumerate(relation.types, 1):
        kinds.append(_kind(type_))
        value = f"to_json(#{number})" if type_.id in _NESTED else f"#{number}"
        texts.append(f"CAST({value} AS VARCHAR)")
    # DuckDB spells the values, because Python has no infinite date, and none before Christ.
    return Answer(relation.columns, kinds, _rows(relation.project(", ".join(texts))))


def _kind(type_: duckdb.sqltypes.DuckDBPyType) -> str:
    if type_.id in _NUMBERS:
        return "number"
    return "json" if type_.id in _NESTED | {"boolean"} or str(type_) == "JSON" else "text"


def _rows(relation: duckdb.DuckDBPyRelation) -> Iterator[Row]:
    rows: list[Row] = [()]
    while rows:
        with _interruptible():
            rows = relation.fetchmany(_ROWS_AT_A_TIME)
        yield from rows


@contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C be a KeyboardInterrupt, of which DuckDB makes a RuntimeError."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, KeyboardInterrupt):
            raise error.__cause__ from None
        raise


def _lines_of(answer: Answer, rows: Sequence[Sequence[str]]) -> list[str]:
    names = [number for number, kind in enumerate(answer.kinds) if kind != "number"]
    return lines_of(answer.headings, rows, names)


def _json(kind: str, value: str | None) -> str:
    if value is None:
        return "null"
    if kind == "number" and value.lstrip("-")[0].isalpha():  # NaN, infinity
        return _text(value)
    if kind == "number":  # DuckDB writes .5 for a DECIMAL(1,1)
        return re.sub(r"^(-?)\.", r"\g<1>0.", value)
    return value if kind == "json" else _text(value)


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)
