"""What a session must be: with the primary, on a backend of its own, and shown the catalogue."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Final

from pg8000.exceptions import DatabaseError

from services.ingestion.writers import Writer, describe, wait_for_writers
from shared.errors import SourceError
from shared.postgres.catalogue import Description
from shared.postgres.refusals import database_errors, sqlstate
from shared.postgres.survey import read_survey
from shared.tables import TABLES, Table, tables_without_changes
from tools.checks.check import Finding, failed, ok, unless, warning
from tools.checks.errors import said_by

if TYPE_CHECKING:
    from tools.checks.source import Source

_BACKEND: Final = "SELECT pg_backend_pid()"


def primary(source: Source) -> Finding:
    """Refuse a standby: it does not see who writes on the primary."""
    [[is_standby]] = source.run("SELECT pg_is_in_recovery()")
    if is_standby:
        return failed("it is a standby", "Put the endpoint of the primary into the secret.")
    return ok("it is the primary")


def pooler(source: Source) -> Finding:
    """Look for a pooler that gives each transaction another backend."""
    if _changes_its_backend(source):
        return failed(
            "a pooler gives each transaction another backend",
            "Connect to the database itself, or let the pooler pool by session.",
        )
    return ok("a session keeps its backend")


def _changes_its_backend(source: Source) -> bool:
    """Tell whether the session changes its backend.

    With nobody else to serve, a pooler may give it the same one each time. So another session
    begins a transaction, which gets the backend of the first one, or takes it away.
    """
    first, *more = (source.run(_BACKEND) for _ in range(3))
    if more != [first, first]:
        return True
    with closing(source.another()) as other, database_errors("A second session"):
        other.run("BEGIN")
        if other.run(_BACKEND) == first or source.run(_BACKEND) != first:
            return True
        other.run("ROLLBACK")
    return False


def change_stream(source: Source) -> Finding:
    """Read the catalogue as each run does, and look for tables that can have no change stream."""
    try:
        survey = read_survey([Table(name) for name in TABLES], source.connection, with_ids=False)
    except SourceError as error:
        return _refused(error, source)
    left_out = tables_without_changes(source.stage.settings.without_changes)
    there = [name for name in TABLES if survey.declared[name]]
    faults = {
        f"{name} has none, because its rows have no xmin": f"Name {name} in withoutChanges."
        for name in there
        if name not in survey.marks and name not in left_out
    }
    return unless(faults, "the role sees what tells which rows have changed", warning)


def open_writers(source: Source) -> Finding:
    """Read who writes, as a run does that finds an id missing."""
    any_table = Description(Table(TABLES[0]), ())
    nobody = {Writer("0/0", 0), Writer("-1/0", None)}  # so that both of the statements run
    try:
        with database_errors("Looking for open transactions"):
            writers, _ = wait_for_writers(any_table, source.connection, 0)
            describe(writers | nobody, source.connection)
    except SourceError as error:
        return _refused(error, source)
    return ok("the role sees which transactions are open")


def _refused(error: SourceError, source: Source) -> Finding:
    detail, remedy = said_by(error)
    if isinstance(error.__cause__, DatabaseError) and sqlstate(error.__cause__) == "42501":
        remedy = (
            f"GRANT {source.role} what is named there, EXECUTE on a function or SELECT on a view: "
            "every role has it, unless it was revoked."
        )
    return failed(detail, remedy)


CHECKS: Final = {
    "primary": primary,
    "pooler": pooler,
    "change stream": change_stream,
    "open writers": open_writers,
}
