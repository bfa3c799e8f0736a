"""Totesys, the source: an embedded PostgreSQL, the real schema, and invented rows."""

from local.totesys.data import add_events, bulk_sales_orders, create, seed

__all__ = ["add_events", "bulk_sales_orders", "create", "seed"]
