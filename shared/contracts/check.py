"""Checks the rows that are read against their contract, and their ids; reports what is wrong.

The table's columns are compared with the contract first, then the values, as they are in the
source: before they are hashed. The values of dropped columns are not read, so not checked. Rows
that break the contract land all the same; violations are logged and counted.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from shared.contracts import schema
from shared.contracts.contract import load
from shared.contracts.values import column_faults
from shared.telemetry import logger

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import pandas as pd

    from shared.contracts.contract import Contract
    from shared.contracts.schema import Schema
    from shared.postgres.catalogue import Column
    from shared.postgres.reader import Batch
    from shared.tables import Table

_FIRST_IDS = 5
_NULLABILITY = ("NOT NULL", "NULL allowed")


@dataclass(frozen=True, slots=True)
class Violation:
    """What is wrong with a column.

    Attributes:
        column: its name.
        kind: `column missing`, `column added`, `type` or `nullability` (the declaration of the
            table changed), `value` (it did not, but some values are wrong), `unique` (ids occur
            more than once).
        expected: what the contract says.
        found: what is there instead, in words that never quote a value.
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
    """Checks what a run reads of one table against its contract; reports each violation once.

    Attributes:
        table: the table.
        reported: column and kind of each violation reported so far.
    """

    def __init__(self, table: Table) -> None:
        self.table = table
        self.reported: set[tuple[str, str]] = set()

    def inspect(self, batch: Batch) -> None:
        """Log an ERROR line for each column and kind of violation that is new in this run.

        The line counts the rows of this batch only. So it is logged before the batch lands, and is
        not lost if the run crashes.

        Raises:
            ConfigError: the contract is not valid.
        """
        contract = self._contract
        found = violations(contract, batch) if contract else []
        for violation in [*id_violations(batch), *found]:
            key = (violation.column, violation.kind)
            if key not in self.reported:
                self.reported.add(key)
                logger().error(
                    "A column breaks its contract",
                    extra={"table": self.table.name, "alarm": "contracts-broken"}
                    | asdict(violation),
                )

    @cached_property
    def _contract(self) -> Contract | None:
        contract = load(self.table)
        if contract is None:
            logger().warning(
                "This table has no contract, so its rows are not checked. Make one: "
                f"make contract TABLE={self.table.name}",
                extra={"table": self.table.name},
            )
        return contract


def id_violations(batch: Batch) -> list[Violation]:
    """Return what is wrong with the ids, which every table must have, contract or not."""
    name, ids = batch.description.table.id_column, batch.ids.to_numpy()
    repeated = np.flatnonzero(ids[1:] == ids[:-1]) + 1
    found = []
    if batch.lacks_ids:
        lacking = f"{_NULLABILITY[True]}, and rows without an id, which never land"
        found.append(Violation(name, "nullability", _NULLABILITY[False], lacking, 0, []))
    if len(repeated):
        first = np.unique(ids[repeated])[:_FIRST_IDS].tolist()
        what = "ids that occur more than once: no unique index keeps them apart"
        found.append(Violation(name, "unique", "a unique index", what, len(repeated), first))
    return found


def violations(contract: Contract, batch: Batch) -> list[Violation]:
    """Return the violations of the contract in a batch, in the order of the columns."""
    declared = {column.name: column for column in batch.description.columns}
    ids = batch.ids
    return [
        Violation(name, kind, wanted, found, len(rows), ids.iloc[rows[:_FIRST_IDS]].tolist())
        for name in dict.fromkeys([*contract, *declared])
        for kind, wanted, found, rows in _findings(name, contract, declared, batch.source)
    ]


def _findings(
    name: str, contract: Contract, declared: Mapping[str, Column], frame: pd.DataFrame
) -> Iterator[_Finding]:
    if name not in declared:
        was = contract[name][schema.POSTGRESQL_TYPE]
        yield _Finding("column missing", was, "no such column", list(range(len(frame))))
    elif name not in contract:
        now = declared[name].type_name
        yield _Finding("column added", "no such column", now, list(range(len(frame))))
    else:
        yield from _compare(contract[name], declared[name], frame.get(name))


def _compare(expected: Schema, column: Column, values: pd.Series[Any] | None) -> Iterator[_Finding]:
    """Yield what is wrong with a column; wrong values count as part of a changed declaration."""
    faults = [] if values is None else column_faults(values, expected)
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
