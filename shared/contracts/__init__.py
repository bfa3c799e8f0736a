"""What the rows of each table must look like, and the check of the rows that land."""
