"""SQL: the database, its tables and their migrations."""
