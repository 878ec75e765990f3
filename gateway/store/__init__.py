"""Shared state in Redis and SQL; SQL is the source of truth."""
