"""The tables of Totesys, in the order they are read, and what is called after each. Pure."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Table:
    """A table, and everything that is called after it.

    >>> Table("address").id_column, Table("address").prefix, Table("address").contract
    ('address_id', 'address/', 'address.json')

    Attributes:
        name: as PostgreSQL has it, without quotes and without a schema.
    """

    name: str

    @property
    def id_column(self) -> str:
        """The column that orders its rows: an integer, drawn from a sequence."""
        return f"{self.name}_id"

    @property
    def prefix(self) -> str:
        """What the keys of its rows begin with; also the last part of other folders of its own."""
        return f"{self.name}/"

    @property
    def contract(self) -> str:
        """The file in `shared/contracts` that says what its rows look like."""
        return f"{self.name}.json"


def tables_without_changes(names: Sequence[str]) -> Sequence[str]:
    """Return the names of the tables that are to have no change stream; `all` names every one.

    Raises:
        ConfigError: one of the names is an unknown table.
    """
    if list(names) == ["all"]:
        return TABLES
    unknown = [name for name in names if name not in TABLES]
    if unknown:
        raise ConfigError(
            f"WITHOUT_CHANGES names unknown tables: {unknown}. Fix `withoutChanges` in "
            "serverless.yml: names of tables, separated by commas, or `all`."
        )
    return names
