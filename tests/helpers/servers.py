"""The server that the tests run on: the wheel's, or an older one in `make test-servers`."""

from __future__ import annotations

import os
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

NEWEST = 18

# What older servers lack, and tests of all versions use. Before 15, a session reports what it wrote
# when it is idle, and readers see that, at most every half second: so tests ask twice.
SHIMS = {
    14: """
CREATE FUNCTION pg_terminate_backend(int, int) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_terminate_backend($1);
    WHILE EXISTS (SELECT FROM pg_stat_get_activity($1)) LOOP
        PERFORM pg_sleep(0.01), pg_stat_clear_snapshot();
    END LOOP;
    RETURN true;
END $$
""",
    15: """
CREATE FUNCTION pg_stat_force_next_flush() RETURNS void LANGUAGE sql AS 'SELECT pg_sleep(0.6)'
""",
}


@cache
def version() -> int:
    """Return the major version of the server."""
    if not (other := os.environ.get("POSTGRES_INSTALLATION")):
        return NEWEST
    program = Path(other, "bin/postgres")
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    [major] = re.findall(r" (\d+)\.", said)
    return int(major)


def infinities(major: int) -> list[str]:
    """Return the infinities of a type that has them since a version."""
    return ["Infinity", "-Infinity"] if version() >= major else []


def since(major: int) -> pytest.MarkDecorator:
    """Skip a test of what a version brought on servers that are older."""
    return pytest.mark.skipif(version() < major, reason=f"PostgreSQL {major} brought it")


def only_in_the_wheel() -> pytest.MarkDecorator:
    """Skip a test that needs programs which only the wheel brings."""
    return pytest.mark.skipif(version() < NEWEST, reason="a program is not there")
