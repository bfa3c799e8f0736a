"""What each table's rows must look like, and word of those that don't.

`contracts/<table>.json` is a JSON Schema of one landed line, which also holds each column's type in
PostgreSQL. `python -m local.contract` writes it, people edit it. The table's catalogue is held
against it, then the values. What breaks a contract lands all the same: it is logged and counted.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from services.ingestion import schema
from services.ingestion.tables import id_column
from shared.errors import ConfigError
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    import pandas as pd

    from services.ingestion.columns import Column
    from services.ingestion.schema import Schema
    from services.ingestion.survey import Declared

    type Contract = Mapping[str, Schema]

FOLDER = Path(__file__).with_name("contracts")

# What every contract says beside its `properties`, all of which it requires.
FRAME = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "additionalProperties": False,
}

_FIRST_IDS = 5
_NULLABILITY = ("NOT NULL", "NULL allowed")


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with a column.

    Attributes:
        column: its name.
        kind: `column gone`, `column new`, `type` or `nullability` (the table was declared anew),
            `value` (the table is as expected, some of its values are not).
        expected: what the contract says.
        found: what is there instead, in words; never a value of a row.
        rows: how many rows of the batch break the contract in this column.
        first_ids: the ids of the first of them.
    """

    column: str
    kind: str
    expected: str
    found: str
    rows: int
    first_ids: list[int]


class _Finding(NamedTuple):
    kind: str
    expected: str
    found: str
    rows: list[int]


class Inspector:
    """Holds what a run reads of one table against the contract, and reports each violation once.

    Attributes:
        table: its name.
        reported: column and kind of what has been reported.
    """

    def __init__(self, table: str) -> None:
        self.table = table
        self.reported: set[tuple[str, str]] = set()

    def inspect(self, frame: pd.DataFrame) -> None:
        """Log an ERROR line for each column and kind of violation that is new in this run.

        It counts the rows of this batch: should the run die, what has landed has been reported.

        Args:
            frame: rows from `source`, with the table's description in `attrs`.

        Raises:
            ConfigError: the contract can't be used.
        """
        if self._contract is None:
            return
        columns = frame.attrs["description"].columns
        for violation in check(self.table, self._contract, columns, frame):
            key = (violation.column, violation.kind)
            if key not in self.reported:
                self.reported.add(key)
                logger().error(
                    "Not what the contract expects",
                    extra={"table": self.table} | asdict(violation),
                )

    def expects(self, declared: Declared | None) -> bool:
        """Tell whether the contract, if there is one, is of a table that is declared like this.

        Raises:
            ConfigError: the contract can't be used.
        """
        contract = load(self.table)
        return contract is None or declared is None or _declaration(contract) == set(declared)

    @cached_property
    def _contract(self) -> Contract | None:
        contract = load(self.table)
        if contract is None:
            logger().warning(
                "No contract says what the rows of this table must look like. Make one: "
                f"make contract TABLE={self.table}",
                extra={"table": self.table},
            )
        return contract


@cache
def load(table: str) -> Contract | None:
    """Return the contract of a table: the schema of each column. None if there is no contract.

    Raises:
        ConfigError: the contract can't be used.
    """
    path = FOLDER / f"{table}.json"
    return parse(path.name, path.read_text()) if path.exists() else None


def parse(name: str, text: str) -> Contract:
    """Return the schema of each column that a contract describes.

    Args:
        name: what errors call it.
        text: a JSON Schema.

    Raises:
        ConfigError: it is none, or says something that is not checked here.
    """
    try:
        document = json.loads(text)
        contract: Contract = document["properties"]
        faults = [*_misuse(document), *_misuse_of_columns(contract)]
    except (ValueError, KeyError, TypeError, AttributeError, re.error) as error:
        raise ConfigError(f"Contract {name} can't be read: {error!r}. Mend it.") from error
    if faults:
        raise ConfigError(f"Contract {name}: {'; '.join(faults)}. Mend it.")
    return contract


def _declaration(contract: Contract) -> set[tuple[str, str, bool]]:
    return {
        (name, expected[schema.POSTGRESQL_TYPE], schema.nullable(expected))
        for name, expected in contract.items()
    }


def check(
    table: str, contract: Contract, columns: Sequence[Column], frame: pd.DataFrame
) -> list[Violation]:
    """Return what of a table breaks its contract, in the order of the columns.

    Args:
        table: its name.
        contract: the schema of each column.
        columns: what the catalogue says of the table.
        frame: rows of it.
    """
    declared = {column.name: column for column in columns}
    ids = frame[id_column(table)]
    return [
        Violation(name, kind, wanted, found, len(rows), ids.iloc[rows[:_FIRST_IDS]].tolist())
        for name in dict.fromkeys([*contract, *declared])
        for kind, wanted, found, rows in _findings(name, contract, declared, frame)
    ]


def _misuse(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what around the columns is not as it must be."""
    said = FRAME | {"required": list(document["properties"])}
    for keyword, argument in said.items():
        if document[keyword] != argument:
            yield f"{keyword!r} must be {json.dumps(argument)}"
    unknown = document.keys() - said.keys() - {"title", "description", "properties"}
    yield from (f"{keyword!r} is not known here" for keyword in sorted(unknown))


def _misuse_of_columns(contract: Contract) -> Iterator[str]:
    for column, expected in contract.items():
        yield from (f"{column}: {misuse}" for misuse in schema.misuse(expected))
        yield from (
            f"{column}: it has no {keyword!r}"
            for keyword in ("type", schema.POSTGRESQL_TYPE)
            if keyword not in expected
        )


def _findings(
    name: str, contract: Contract, declared: Mapping[str, Column], frame: pd.DataFrame
) -> Iterator[_Finding]:
    if name not in declared:
        was = contract[name][schema.POSTGRESQL_TYPE]
        yield _Finding("column gone", was, "no such column", list(range(len(frame))))
    elif name not in contract:
        now = declared[name].type_name
        yield _Finding("column new", "no such column", now, list(range(len(frame))))
    else:
        yield from _compare(contract[name], declared[name], frame[name])


def _compare(expected: Schema, column: Column, values: pd.Series[Any]) -> Iterator[_Finding]:
    """Yield what is wrong with a column; values wrong for that reason are part of the drift."""
    faults = schema.faults(values, expected)
    rows = [row for row, fault in enumerate(faults) if fault]
    words = "; ".join(sorted(set(faults) - {""}))
    drifts = [
        ("type", expected[schema.POSTGRESQL_TYPE], column.type_name),
        ("nullability", _NULLABILITY[schema.nullable(expected)], _NULLABILITY[column.nullable]),
    ]
    drifts = [drift for drift in drifts if drift[1] != drift[2]]
    for kind, wanted, found in drifts:
        yield _Finding(kind, wanted, f"{found} ({words})" if words else found, rows)
    if rows and not drifts:
        yield _Finding("value", json.dumps(schema.rules(expected)), words, rows)
