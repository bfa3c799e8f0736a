"""The reconciliation service: every night it proves that source and bucket agree."""

from services.reconciliation.comparison import reconcile

__all__ = ["reconcile"]
