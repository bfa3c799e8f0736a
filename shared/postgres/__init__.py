"""Everything asked of PostgreSQL: sessions, the catalogue, rows. Knows nothing of S3."""
