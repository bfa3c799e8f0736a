"""The tables of Totesys, in the order they are read. Pure."""

from __future__ import annotations

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
