"""Providers and models in SQL, and how workers learn of changes."""
