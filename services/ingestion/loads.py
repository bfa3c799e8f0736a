"""A load: all rows that a table has now, landed by many workers side by side.

It is for what outgrows one call after the other. No new protocol is needed: a claimed batch is
final (see `land`), so all claims are made first, and whoever lands a batch lands the same rows. A
state machine does it, load-state-machine.yml, by three kinds of calls:

1.  `plan` settles how far the load goes, and claims the batches up to there. What it returns is its
    next event, until all are claimed; then it returns the items.
2.  `items`: each worker lands the batches of one item, a stretch of the chain of claims.
3.  `finish`: an ordinary run, which also moves `latest.json` behind what has landed.

A load that dies anywhere leaves claims without objects. Another one lands them, and so do the
ordinary runs, one after the other. This module has what the calls tell each other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import EventError
from shared.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_DEFAULT_WORKERS, _MOST_WORKERS = 8, 1_000


@dataclass(frozen=True, slots=True)
class Load:
    """What is to be planned.

    Attributes:
        table: the table's name.
        workers: how many workers land batches at once.
        up_to: the last id of the load; None until it is settled.
        above: the end of the chain of claims; None until then.
    """

    table: str
    workers: int = _DEFAULT_WORKERS
    up_to: int | None = None
    above: int | None = None


@dataclass(frozen=True, slots=True)
class Item:
    """What one worker lands: the batches of a stretch of the chain of claims.

    Attributes:
        table: the table's name.
        above: the id that the first of the batches begins above.
        up_to: the last id of the last one.
        rows: how many rows its calls have landed so far, as far as these did not fail.
        batches: in how many batches.
    """

    table: str
    above: int
    up_to: int
    rows: int = 0
    batches: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of the items of a load.

    Attributes:
        table: the table's name.
        landed: those whose batches have landed.
        failed: those whose worker failed, from where the call began that failed.
        errors: the names of their errors.
    """

    table: str
    landed: Sequence[Item]
    failed: Sequence[Item]
    errors: Sequence[str]


def requested_load(event: Mapping[str, Any]) -> Load:
    """Return the load that an event asks to plan.

    Args:
        event: `{"plan": {"table": "payment", "workers": 8}}`, or what a plan has returned.

    Raises:
        EventError: it names no known table, or no possible number of workers.
    """
    asked = event["plan"]
    if not isinstance(asked, dict) or asked.keys() - {"table", "workers", "up_to", "above", "more"}:
        raise EventError(
            'To load a table, the input must be {"table": "payment", "workers": 8}. It needs no '
            "workers."
        )
    workers = asked.get("workers", _DEFAULT_WORKERS)
    if type(workers) is not int or not 1 <= workers <= _MOST_WORKERS:
        raise EventError(f"workers must be a whole number from 1 to {_MOST_WORKERS}.")
    bounds = asked.get("up_to"), asked.get("above")
    if {*map(type, bounds)} not in ({int}, {type(None)}):
        raise EventError("up_to and above are what a plan has returned: leave both out.")
    return Load(_known(asked.get("table")), workers, *bounds)


def requested_item(event: Mapping[str, Any]) -> Item:
    """Return the item that an event asks to land: `{"land": {...}}`, with the fields of an `Item`.

    Raises:
        EventError: the table is unknown.
    """
    return _item(event["land"])


def outcome(event: Mapping[str, Any]) -> Outcome:
    """Return what became of the items, by `{"finish": {"table": "payment", "items": [...]}}`.

    The items are what the workers returned; of one that failed, what its last call began with, and
    its `error`.

    Raises:
        EventError: the table is unknown.
    """
    items = event["finish"]["items"]
    return Outcome(
        _known(event["finish"]["table"]),
        [_item(each) for each in items if "error" not in each],
        [_item(each) for each in items if "error" in each],
        [each["error"] for each in items if "error" in each],
    )


def _item(said: Mapping[str, Any]) -> Item:
    counted = said.get("rows", 0), said.get("batches", 0)
    return Item(_known(said["table"]), said["above"], said["up_to"], *counted)


def _known(table: object) -> str:
    if table not in TABLES:
        raise EventError(f"Unknown table: {table!r}. The tables are {', '.join(TABLES)}.")
    return str(table)
