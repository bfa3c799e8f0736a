"""What the rows of each table must look like, for who lands them and for who reads what landed."""
