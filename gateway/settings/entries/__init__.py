"""Providers and models in SQL, as entries beside those of the configuration file."""
