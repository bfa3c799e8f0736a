"""What the events of our functions may ask for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import EventError
from shared.tables import TABLES

if TYPE_CHECKING:
    from collections.abc import Sequence


def requested_tables(event: object) -> Sequence[str]:
    """Return the tables that an event asks for, in the order in which they are read.

    Args:
        event: `{}` for all tables, `{"tables": ["address"]}` for some.

    Raises:
        EventError: the event is neither `{}` nor a list of known tables.
    """
    if event == {}:
        return TABLES
    wanted = event.get("tables") if isinstance(event, dict) and len(event) == 1 else None
    if not isinstance(wanted, list) or not wanted:
        raise EventError(
            'The event must be {} for all tables or {"tables": ["address", ...]} for some. '
            "`make ingest`, `make replay`, `make restore` and `make reconcile` make events, see "
            "docs/operating.md."
        )
    unknown = [name for name in wanted if name not in TABLES]
    if unknown:
        raise EventError(f"Unknown tables: {unknown}. The tables are {', '.join(TABLES)}.")
    return [table for table in TABLES if table in wanted]
