"""Everything that uses S3: the names of objects, and how they are read and written safely.

`read_new` is for services that use what landed. It is imported on first use, because it imports
pandas, which the reconciliation and an ingestion without news do without.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from shared.bucket.reading import New, read_new

__all__ = ["New", "read_new"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from shared.bucket import reading

    return getattr(reading, name)
