"""How a table is declared, as far as the lines of its rows depend on it. No I/O.

ALTER TABLE and ALTER TYPE may change the line of every row, and most kinds of them write no new
version of any row. So a mark says how the table was declared when it was taken, and where that
differs, the lines are compared with those that have landed.
"""

from __future__ import annotations

import hmac
import json
from hashlib import blake2b
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.personal import PersonalData

# In a mark: its lines are not known to be those of any declaration, so they are to be compared.
UNKNOWN = "unknown"


def lines_depend_on(
    columns: Sequence[Sequence[str | None]],
    attributes: Sequence[Sequence[Any]] = (),
    labels: Sequence[Sequence[Any]] = (),
) -> str:
    """Return all that a row's line depends on but its values, as text.

    Whatever else changes lines without writing versions belongs in here, too. Nullability does not:
    no line depends on it.

    Args:
        columns: the table's columns, in order: name, type, and the expression of a virtual one.
        attributes: those of the composite types that its values consist of, in order: oid, name,
            type.
        labels: those of the enums that its values consist of: oid, label.
    """
    parts = {
        "columns": list(columns),
        "attributes": list(attributes),
        "labels": {str(oid): label for oid, label in labels},
    }
    return _as_text(parts)


def with_land(declared: str, personal: PersonalData) -> str:
    """Return a declaration with what the contract says of personal data, if it says something.

    The key of the hashes is in it as a hash of its own: another key makes other lines.
    """
    if not declared or not personal.columns:
        return declared
    key = hmac.digest(personal.hash_key, b"which key it is", "sha256").hex()[:16]
    land = {
        "dropped": sorted(personal.dropped),
        "hashed": sorted(personal.hashed),
        "key": key if personal.hashed else "",
    }
    return _as_text(json.loads(declared) | {"land": land})


def digest(declared: str) -> str:
    """Return a declaration as metadata of objects say it; one that is not known stays so.

    >>> digest(""), digest(UNKNOWN), len(digest(lines_depend_on([["thing_id", "integer", None]])))
    ('', 'unknown', 32)
    """
    if not declared.startswith("{"):
        return declared
    return blake2b(declared.encode(), digest_size=16).hexdigest()


def difference(before: str, now: str) -> str | None:
    """Return what was declared anew so that lines may have changed; None if nothing was.

    A label that was added changes no line that has landed. Marks of earlier releases say nothing of
    the declaration; it counts as the same.

    >>> before = lines_depend_on([["thing_id", "integer", None]])
    >>> difference(before, lines_depend_on([["thing_id", "integer", None], ["note", "text", None]]))
    'columns: note'
    >>> difference("", before), difference(digest(before), before)
    (None, None)

    Args:
        before: what `lines_depend_on` returned, or its digest, or UNKNOWN; empty in old marks.
        now: what `lines_depend_on` returns now.
    """
    if not before or not now or digest(before) == digest(now):
        return None
    if before == UNKNOWN:
        return "a comparison of its lines has not ended"
    if not before.startswith("{"):
        return "columns, types or labels"
    return _difference(json.loads(before), json.loads(now))


def _as_text(parts: dict[str, Any]) -> str:
    return json.dumps(parts, sort_keys=True, separators=(",", ":"))


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str | None:
    if before["columns"] != now["columns"]:
        others = [each for each in now["columns"] if each not in before["columns"]]
        others += [each for each in before["columns"] if each not in now["columns"]]
        return "columns: " + ", ".join(dict.fromkeys(name for name, *_ in others))
    if before.get("land") != now.get("land"):
        return "x-land in its contract, or the key of the hashes"
    if before["attributes"] != now["attributes"]:
        return "a composite type"
    if not before["labels"].items() <= now["labels"].items():
        return "labels of an enum"
    return None
