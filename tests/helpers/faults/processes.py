"""Which processes are left of something that was started, and which one is at the other end."""

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


def process_at(port: int) -> int:
    """Return the id of the process of this machine whose connection has a local port."""
    inodes = {
        fields[9]
        for fields in map(str.split, Path("/proc/net/tcp").read_text().splitlines()[1:])
        if int(fields[1].rpartition(":")[2], 16) == port
    }
    sockets = {f"socket:[{inode}]" for inode in inodes - {"0"}}
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it may have ended
            if any(str(each.readlink()) in sockets for each in (entry / "fd").iterdir()):
                return int(entry.name)
    raise LookupError(f"No process has a connection from port {port}.")
