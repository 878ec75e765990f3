"""Translates Chat Completions requests for Anthropic upstreams, and their responses back."""
