"""The tables of Totesys, in the order in which they are read, and the names derived from each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

# Children before parents: a row's parent was committed no later than the row, so a parent table
# that is read after its child table contains every row that the child's rows refer to. A test
# compares this order with the foreign keys.
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

# The member that says of an id in the change stream that its row is gone.
TOMBSTONE = "_deleted"


@dataclass(frozen=True, slots=True)
class Table:
    """A table, and the names derived from it.

    >>> Table("address").id_column, Table("address").prefix, Table("address").contract
    ('address_id', 'address/', 'address.json')

    Attributes:
        name: its name in PostgreSQL, without quotes and schema.
    """

    name: str

    @property
    def id_column(self) -> str:
        """The column that orders its rows: an integer, drawn from a sequence."""
        return f"{self.name}_id"

    @property
    def prefix(self) -> str:
        """The folder of its rows; also the last part of its other folders: `claims/address/`."""
        return f"{self.name}/"

    @property
    def contract(self) -> str:
        """The file in `shared/contracts` that says what its rows look like."""
        return f"{self.name}.json"


def tables_without_changes(names: Sequence[str]) -> Sequence[str]:
    """Return the names of the tables that have no change stream; `all` stands for every table.

    Raises:
        ConfigError: one of the tables is unknown.
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
