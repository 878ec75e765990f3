"""Builds the requests of attempts from a client's request."""
