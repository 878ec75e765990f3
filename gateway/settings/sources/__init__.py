"""Overrides by the environment, and the source of each effective setting."""
