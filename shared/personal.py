"""Which columns of a table hold personal data that must not land as it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final


@dataclass(frozen=True, slots=True)
class PersonalData:
    """How the columns of a table land that must not land as they are.

    Attributes:
        dropped: the columns that don't land, and are never read.
        hashed: the columns of which hashes land.
        hash_key: the key of the hashes, if there are any.
    """

    dropped: frozenset[str] = frozenset()
    hashed: frozenset[str] = frozenset()
    hash_key: bytes = field(default=b"", repr=False)

    @property
    def columns(self) -> frozenset[str]:
        """All of these columns."""
        return self.dropped | self.hashed


NONE: Final = PersonalData()
