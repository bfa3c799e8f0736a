"""Everything that queries PostgreSQL: sessions, system catalogs, rows. Knows nothing of S3."""
