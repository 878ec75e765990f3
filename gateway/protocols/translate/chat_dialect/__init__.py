"""Adapts chat requests to the dialects of the OpenAI wire."""
