"""Everything that uses S3: the names of objects, and how they are read and written safely."""
