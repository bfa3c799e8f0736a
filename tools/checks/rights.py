"""The rights of the role: which tables it may read, and whether it sees all of their rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pg8000.native import identifier

from tools.checks.check import Finding, unless

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.checks.facts import Facts
    from tools.checks.source import Source


def grants(source: Source) -> Finding:
    """Look for what the role lacks."""
    [[path]] = source.run("SHOW search_path")
    return judge_grants(source.role, path, source.tables)


def judge_grants(role: str, path: str, tables: Sequence[Facts]) -> Finding:
    """Judge what a role may read, by one statement for all tables of which it lacks the same.

    Args:
        role: its name, quoted.
        path: its search_path.
        tables: what the catalogue says of the tables.
    """
    missing = [each for each in tables if not each.is_there]
    closed = sorted({schema for each in missing for schema in each.closed_schemas})
    unreadable = [each.name for each in tables if each.is_there and not each.is_readable]
    faults = {
        f"no USAGE on the schema {schema}": f"GRANT USAGE ON SCHEMA {identifier(schema)} TO {role};"
        for schema in closed
    }
    elsewhere = sorted({each.schemas[0] for each in missing if each.schemas})
    longer = ", ".join([path, *map(str, map(identifier, elsewhere))])
    for each in missing:
        if each.schemas:
            faults[f"{each.name} is in {each.schemas[0]}, which is not on the search_path"] = (
                f"ALTER ROLE {role} SET search_path = {longer};"
            )
        elif not each.closed_schemas:
            faults[f"there is no table {each.name}"] = (
                f"Restore {each.name}, or take it out of shared/tables.py."
            )
    if unreadable:
        names = ", ".join(map(str, map(identifier, unreadable)))
        faults[f"no SELECT on {', '.join(unreadable)}"] = f"GRANT SELECT ON {names} TO {role};"
    return unless(faults, f"CONNECT, USAGE, and SELECT on {len(tables)} tables")


def row_level_security(source: Source) -> Finding:
    """Look for policies that hide rows from the role: the service refuses such a table."""
    faults = {
        f"some rows of {each.name} may be hidden": (
            f"ALTER ROLE {source.role} BYPASSRLS; or ALTER TABLE {identifier(each.name)} DISABLE "
            "ROW LEVEL SECURITY;"
        )
        for each in source.tables
        if each.hides_rows
    }
    return unless(faults, "no rows are hidden")


CHECKS: Final = {"grants": grants, "row-level security": row_level_security}
