"""Requests and responses as HTTP sees them: fields, rewriting, headers and errors."""
