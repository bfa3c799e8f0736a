"""The ingestion service: what is new in Totesys lands in S3 as JSON lines."""

from services.ingestion.landing import get_latest_id, write_table_data
from services.ingestion.source import get_table_data

__all__ = ["get_latest_id", "get_table_data", "write_table_data"]
