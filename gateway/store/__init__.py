"""Shared state: the command bus to Redis, and SQL, which is the truth."""
