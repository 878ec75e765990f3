"""Translates Anthropic Messages requests for OpenAI upstreams, and their responses back."""
