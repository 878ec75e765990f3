"""Stored responses: stores new ones, and resolves requests that refer to them."""
