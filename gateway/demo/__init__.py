"""
A scripted upstream in both dialects, which needs no model and no provider account.

It lets operators try the whole gateway, and lets tests control responses by directives in prompts;
see `script`.
"""
