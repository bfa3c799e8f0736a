"""The hashes that land in place of personal data."""

from __future__ import annotations

import hmac
import json
from typing import TYPE_CHECKING, Any

import pandas as pd

from shared.jsonlines import to_json_texts

if TYPE_CHECKING:
    from shared.personal import PersonalData


def landed_rows(rows: pd.DataFrame, personal: PersonalData) -> pd.DataFrame:
    """Return rows as they land; the very same frame if no column is hashed.

    Args:
        rows: as they were read, without the dropped columns.
        personal: the table's.
    """
    if not personal.hashed:
        return rows
    return rows.assign(**{name: hashed(rows[name], personal.hash_key) for name in personal.hashed})


def hashed(column: pd.Series[Any], key: bytes) -> pd.Series[Any]:
    """Return the hash of each value, as 64 hexadecimal digits; None for a null.

    What is hashed is the value as it would land: of a string its characters in UTF-8, of anything
    else its JSON text. So values have the same hash in any two columns if they would land alike.

    >>> hashed(pd.Series(["a", None]), b"key").tolist() == [
    ...     hmac.digest(b"key", b"a", "sha256").hex(), None
    ... ]
    True

    Raises:
        TypeError: a value is of a type that has no exact JSON form.
    """
    texts = to_json_texts(column)
    keyed = hmac.new(key, digestmod="sha256")
    by_text = {text: _hash(text, keyed) for text in set(texts)}
    hashes = list(map(by_text.__getitem__, texts))
    return pd.Series(hashes, index=column.index, dtype=object, name=column.name)


def _hash(text: bytes, keyed: hmac.HMAC) -> str | None:
    """Return the hash of a JSON text, by a copy of an HMAC that has its key."""
    text = text.strip()  # a document of type json may have white space around it
    if text == b"null":
        return None
    one = keyed.copy()  # faster than to begin with the key again
    one.update(_characters(text) if text.startswith(b'"') else text)
    return one.hexdigest()


def _characters(string: bytes) -> bytes:
    """Return the characters of a JSON string in UTF-8."""
    if b"\\" not in string:
        return string[1:-1]
    # A document of type json may hold half of a surrogate pair.
    text: str = json.loads(string)
    return text.encode("utf-8", "surrogatepass")
