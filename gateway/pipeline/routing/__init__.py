"""Selects deployments for calls by policy, preferences, health and load."""
