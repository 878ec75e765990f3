"""Speaks OpenID Connect to the provider: its description, its keys and its tokens."""
