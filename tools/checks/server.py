"""The server around a session: how long others may be idle, how many there may be, its clock."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from pg8000.native import identifier

from tools.checks.account import WARN_SECONDS
from tools.checks.check import Finding, ok, unless, warning

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.checks.source import Source

# Two functions, and a run that overlaps another.
LEAST_FREE: Final = 3
_MORE: Final = 10
_IDLE: Final = "idle_in_transaction_session_timeout"
_LIMITS = """
SELECT current_setting('max_connections')::int
        - current_setting('superuser_reserved_connections')::int
        - coalesce(current_setting('reserved_connections', true), '0')::int,
    (SELECT sum(numbackends) FROM pg_stat_database)::int,
    datconnlimit, (SELECT numbackends FROM pg_stat_database WHERE datid = here.oid),
    rolconnlimit, (SELECT count(*) FROM pg_stat_activity WHERE usename = current_user)::int
FROM pg_database AS here, pg_roles WHERE datname = current_database() AND rolname = current_user
"""


class Limit(NamedTuple):
    """How many sessions there may be, and are; and how to allow more."""

    of: str
    most: int
    used: int
    remedy: str


def idle_transactions(source: Source) -> Finding:
    """Look for the limit that ends forgotten transactions; our own session has another one."""
    [[value]] = source.run(f"SELECT reset_val::int FROM pg_settings WHERE name = '{_IDLE}'")
    if value == 0:
        database = identifier(source.credentials.dbname)
        return warning(
            "a forgotten transaction stays open, and holds rows back",
            f"A hint: ALTER DATABASE {database} SET {_IDLE} = '10min';",
        )
    return ok(f"{_IDLE} is {value / 1000:g} s")


def connections(source: Source) -> Finding:
    """Look at how many sessions are left."""
    [[most, used, *others]] = source.run(_LIMITS)
    remedy = "Raise max_connections of the server, or close sessions."
    limits = [Limit("the server", most, used, remedy)]
    who = source.credentials
    for kind, name, number in (("database", who.dbname, 0), ("role", who.username, 2)):
        most, used = others[number : number + 2]
        if most >= 0:  # else it has none
            remedy = f"ALTER {kind.upper()} {identifier(name)} CONNECTION LIMIT {used + _MORE};"
            limits.append(Limit(f"the {kind} {name}", most, used, remedy))
    return judge_connections(limits)


def judge_connections(limits: Sequence[Limit]) -> Finding:
    """Judge how many sessions are left, the one that asks among those that are used."""
    faults = {
        f"{each.of} has {each.used} of {each.most} sessions": each.remedy
        for each in limits
        if each.most - each.used < LEAST_FREE
    }
    left = min(each.most - each.used for each in limits)
    return unless(faults, f"{left} sessions are left", warning)


def clock(source: Source) -> Finding:
    """Compare this machine's clock with that of the database."""
    before = time.time()
    [[there]] = source.run("SELECT extract(epoch FROM clock_timestamp())::float8")
    return judge_clock((before + time.time()) / 2 - there)


def judge_clock(seconds: float) -> Finding:
    """Judge by how much this machine's clock is ahead of the database's, or behind it."""
    if abs(seconds) <= WARN_SECONDS:
        return ok(f"within {WARN_SECONDS} s of this machine's")
    where = "behind" if seconds > 0 else "ahead of"
    return warning(
        f"the database's is {abs(seconds) / 60:.0f} minutes {where} this machine's",
        "If `clock` is ok, let NTP set the clock of the database's server.",
    )


CHECKS: Final = {
    "idle transactions": idle_transactions,
    "connections": connections,
    "database clock": clock,
}
