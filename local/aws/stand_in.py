"""A stand-in for AWS on the loopback interface: S3, Lambda, Step Functions, CloudFormation, ...

What is deployed to it stays on this machine, and is gone when it is closed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, Self

import boto3
import botocore.session
from botocore.config import Config

from local import REPOSITORY

REGION: Final = "eu-west-2"
# The Serverless Framework ignores NO_PROXY and would use a proxy for the loopback interface, too.
PROXY_VARIABLES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "proxy")
# No proxy; and the longest call is waited for.
_CONFIG: Final = Config(proxies={}, read_timeout=900)
STOP_SECONDS: Final = 10
LOG_TAIL_LINES: Final = 40

# In the form of `session_vars`: neither the environment nor a default may point to a profile.
_NO_PROFILE: Final = {
    "profile": (None, None, None, None),
    "config_file": (None, None, os.devnull, None),
}


class LocalAws:
    """The stand-in while it runs; a context manager.

    It reads nothing of the user's AWS profile. Its processes end when the process that started it
    ends, even by a kill.

    Attributes:
        endpoint: Its address, http://127.0.0.1:<port>.
        folder: Where it keeps what is not in its memory.
    """

    endpoint: str
    folder: str

    def __init__(self) -> None:
        """Prepare its clients."""
        self._session: Any = boto3.Session(
            aws_access_key_id="local",
            aws_secret_access_key="local",
            region_name=REGION,
            botocore_session=botocore.session.Session(session_vars=_NO_PROFILE),
        )
        # Made once each: reading what a service can do takes a second for the larger ones.
        self._clients: dict[str, Any] = {}

    def __enter__(self) -> Self:
        """Start it.

        Raises:
            RuntimeError: It did not start; the message has the end of its log.
        """
        # moto's process deletes it; this is for when that one is killed.
        self._folder = tempfile.TemporaryDirectory(prefix="local-aws-", ignore_cleanup_errors=True)
        self.folder = self._folder.name
        self._log = Path(self.folder) / "moto.log"
        self._process = self._start()
        try:
            self.endpoint = f"http://127.0.0.1:{self._read_port()}"
        except BaseException:
            self._stop()
            raise
        return self

    def __exit__(self, *exc_info: object) -> None:
        """End its processes and delete its folder."""
        self._stop()

    def client(self, service: str) -> Any:
        """Return the boto3 client of the stand-in for a service, whatever the shell exports."""
        if service not in self._clients:
            self._clients[service] = self._session.client(
                service, endpoint_url=self.endpoint, config=_CONFIG
            )
        return self._clients[service]

    def environ(self) -> dict[str, str]:
        """Return what a shell must export so that `sls` and boto3 talk to the stand-in."""
        return {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "local",
            "AWS_SECRET_ACCESS_KEY": "local",
            "AWS_REGION": REGION,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }

    def subprocess_environ(self) -> dict[str, str]:
        """Return the environment for `sls`: this process's, without what would interfere.

        `python3` is this Python. Only pip, which builds the layer, still uses a proxy.
        """
        programs = Path(sys.executable).parent
        environ = {
            **_environ_without("AWS_", *PROXY_VARIABLES),
            **self.environ(),
            "PATH": f"{programs}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
            "VIRTUAL_ENV": sys.prefix,
        }
        proxy = os.environ.get("HTTPS_PROXY") or os.environ.get("https_proxy")
        return {**environ, "PIP_PROXY": proxy} if proxy else environ

    def _start(self) -> subprocess.Popen[bytes]:
        environ = _environ_without("AWS_", "MOTO_", *PROXY_VARIABLES)
        with self._log.open("wb") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "local.aws.moto_server", self.folder],
                cwd=REPOSITORY,
                env={**environ, "HOME": self.folder},
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # not reached by Ctrl-C, and one group to kill
            )

    def _read_port(self) -> int:
        line = self._process.stdout.readline() if self._process.stdout else b""
        if not line:
            raise RuntimeError(f"The AWS stand-in did not start:\n{tail(self._log)}")
        return int(line)

    def _stop(self) -> None:
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(STOP_SECONDS)
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        self._folder.cleanup()


def tail(log: Path) -> str:
    """Return the last lines of a log file."""
    return "\n".join(log.read_text(errors="replace").splitlines()[-LOG_TAIL_LINES:])


def _environ_without(*prefixes: str) -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
