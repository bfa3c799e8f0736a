"""The ingestion service: lands new and changed rows of Totesys in S3 as JSON lines.

Its public names are imported on first use, because most of them import pandas, which takes longer
than a whole run without news.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from services.ingestion.land import get_latest_id, write_table_data
    from services.ingestion.new_rows import get_table_data
    from services.ingestion.replays import Range, replay
    from services.ingestion.restores import LostObject, restore
    from services.ingestion.run import Limits, ingest

__all__ = [
    "Limits",
    "LostObject",
    "Range",
    "get_latest_id",
    "get_table_data",
    "ingest",
    "replay",
    "restore",
    "write_table_data",
]

_MODULES = {
    "Limits": "run",
    "LostObject": "restores",
    "Range": "replays",
    "get_latest_id": "land",
    "get_table_data": "new_rows",
    "ingest": "run",
    "replay": "replays",
    "restore": "restores",
    "write_table_data": "land",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
