"""Which processes are left of something that was started."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path


def processes_of(folder: str) -> list[int]:
    """Return the ids of living processes that work in a folder or name it in their command."""
    return [int(entry.name) for entry in Path("/proc").glob("[0-9]*") if _is_of(entry, folder)]


def _is_of(entry: Path, folder: str) -> bool:
    # A process may end while it is looked at; one that has ended has neither of the two.
    with suppress(OSError):
        return folder in (entry / "cmdline").read_text() or folder in str(
            (entry / "cwd").readlink()
        )
    return False
