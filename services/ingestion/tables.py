"""The tables of Totesys, in the order they are read. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Children before parents: what a row refers to was committed no later than the row, so a parent
# read after its child has all that the child refers to. A test holds this against the foreign keys.
TABLES = (
    "payment",
    "transaction",
    "sales_order",
    "purchase_order",
    "design",
    "staff",
    "department",
    "counterparty",
    "address",
    "currency",
    "payment_type",
)


def id_column(table: str) -> str:
    """Return the name of the column that a table's rows are ordered by."""
    return f"{table}_id"


def tables_without_changes(names: Sequence[str]) -> Sequence[str]:
    """Return the tables that are to have no change stream.

    Raises:
        ConfigError: one of the names is no table of ours.
    """
    if list(names) == ["all"]:
        return TABLES
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise ConfigError(
            f"WITHOUT_CHANGES names {unknown}, which are no tables of ours. Mend `withoutChanges` "
            "in serverless.yml: names of tables, commas between them, or `all`."
        )
    return names
