"""The reconciliation service: compares the database with the bucket every night."""

from services.reconciliation.table import reconcile

__all__ = ["reconcile"]
