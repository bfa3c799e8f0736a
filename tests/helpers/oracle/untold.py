"""What no log line may tell: passwords, keys, and values of rows."""

from __future__ import annotations

import json
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from local.totesys.database import HASH_KEY, PASSWORD
from local.totesys.master_data import master_rows

if TYPE_CHECKING:
    from collections.abc import Iterable

# Of these every value is somebody's own, and no word that a log line could have of itself.
_PERSONAL = {
    "address": ("address_line_1", "phone"),
    "counterparty": ("counterparty_legal_name", "commercial_contact", "delivery_contact"),
    "design": ("file_name",),
    "staff": ("email_address",),
}


@cache
def untold() -> frozenset[str]:
    """Return password and key, and the texts of people and companies in every seeded Totesys."""
    rows = master_rows(Random(1))
    texts = [
        str(row[column])
        for table, columns in _PERSONAL.items()
        for row in rows[table]
        for column in columns
        if row[column]
    ]
    # Also as they are spelled in JSON, with and without letters beyond ASCII.
    spelled = [json.dumps(text, ensure_ascii=ascii) for text in texts for ascii in (False, True)]
    return frozenset([PASSWORD, HASH_KEY, *texts, *(text[1:-1] for text in spelled)])


def telling(lines: Iterable[str]) -> list[str]:
    """Return the lines that have one of them in it."""
    return [line for line in lines if any(text in line for text in untold())]
